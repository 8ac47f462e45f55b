"""Everything that edge-et raises on purpose.

One class a cause; the numbers, names and paths of a message are attributes too. Exceptions of the
libraries underneath are wrapped once, at the seam, and stay reachable as ``__cause__``. What a
caller's own code raises meanwhile, a signal's handler or a file object, comes as it is.

::

    EdgeETError
    ├── BundleError
    │   ├── BundleNotFoundError        no such folder, and no installed bundle of that name
    │   ├── ManifestSyntaxError        bundle.json is not JSON
    │   ├── ManifestSchemaError        bundle.json is JSON, but a field is wrong, missing or unknown
    │   ├── BundleVersionError         another format, or a format_version this release cannot read
    │   ├── UnsafePathError            a file reference that leaves the bundle's folder
    │   ├── MissingFileError           a file that the manifest names is not there
    │   ├── UnreadableFileError        a file is there, and cannot be read
    │   ├── MissingPackageError        a file lies in a Python package that is not installed
    │   ├── FileSizeError              a file is longer or shorter than the manifest says
    │   ├── FileHashError              a file's content is not what the manifest says
    │   ├── WidthMismatchError         the image tokens do not fit the language model
    │   └── ModelFileError             a model or tokenizer that cannot be opened, or is another one
    ├── ImageError
    │   ├── ImageFileError             the path cannot be read
    │   ├── ImageInputError            not a kind of image that is accepted
    │   ├── ImageDecodeError           the bytes are no image, or a damaged one
    │   ├── ImageTooLargeError         more pixels than the limit
    │   ├── TooManyImagesError         more pictures in one question than the limit
    │   └── ImagesTooLargeError        more bytes of pictures in one question than the limit
    ├── CameraError                    a source of frames that cannot be used, or is lost
    ├── BatchError
    │   ├── BatchInputError            a folder, pattern or table that cannot be read as rows
    │   ├── BatchOutputError           an output that is another run's, or cannot be gone on with
    │   └── WorkerEndedError           a process that answers ended by itself
    ├── OptionError                    an option or argument out of its range
    ├── AnswerValueError               an answer fits its schema, and its class refuses it
    ├── PromptTooLongError             more tokens than the context holds
    ├── MemoryBudgetError              more memory needed than was granted
    ├── VisionRunError                 the vision tower failed on an image
    ├── DecodeError                    the language model failed while evaluating
    ├── EngineError                    no engine for language models, or one that cannot be used
    ├── ClosedError                    the object was closed before
    ├── BusyError                      an unfinished stream holds the pipeline
    ├── QueueFullError                 too many calls wait for the pipeline already
    ├── CancelledError                 the call was cancelled
    ├── ForkedError                    the object was opened before this process was forked
    ├── CacheFolderError               the user has no folder for caches
    └── ToolError                      of the tools; export and quantize add children of their own
        ├── MissingExtraError          a package of an optional extra is not installed
        ├── TuningError                a step of the tuning recipe cannot be done
        ├── AssetError                 drawings for training scenes cannot be had
        └── BenchError                 a measurement cannot be taken, or its document not be read
"""

from edge_et.errors.base import (
    EdgeETError,
)
from edge_et.errors.batch import (
    BatchError,
    BatchInputError,
    BatchOutputError,
    WorkerEndedError,
)
from edge_et.errors.bundle import (
    BundleError,
    BundleNotFoundError,
    BundleVersionError,
    FileHashError,
    FileSizeError,
    ManifestSchemaError,
    ManifestSyntaxError,
    MissingFileError,
    MissingPackageError,
    ModelFileError,
    UnreadableFileError,
    UnsafePathError,
    WidthMismatchError,
)
from edge_et.errors.call import (
    AnswerValueError,
    BusyError,
    CacheFolderError,
    CancelledError,
    ClosedError,
    DecodeError,
    EngineError,
    ForkedError,
    MemoryBudgetError,
    OptionError,
    PromptTooLongError,
    QueueFullError,
    VisionRunError,
)
from edge_et.errors.camera import CameraError
from edge_et.errors.image import (
    ImageDecodeError,
    ImageError,
    ImageFileError,
    ImageInputError,
    ImagesTooLargeError,
    ImageTooLargeError,
    TooManyImagesError,
)
from edge_et.errors.tool import (
    AssetError,
    BenchError,
    MissingExtraError,
    ToolError,
    TuningError,
)

__all__ = [
    "AnswerValueError",
    "AssetError",
    "BatchError",
    "BatchInputError",
    "BatchOutputError",
    "BenchError",
    "BundleError",
    "BundleNotFoundError",
    "BundleVersionError",
    "BusyError",
    "CacheFolderError",
    "CameraError",
    "CancelledError",
    "ClosedError",
    "DecodeError",
    "EdgeETError",
    "EngineError",
    "FileHashError",
    "FileSizeError",
    "ForkedError",
    "ImageDecodeError",
    "ImageError",
    "ImageFileError",
    "ImageInputError",
    "ImageTooLargeError",
    "ImagesTooLargeError",
    "ManifestSchemaError",
    "ManifestSyntaxError",
    "MemoryBudgetError",
    "MissingExtraError",
    "MissingFileError",
    "MissingPackageError",
    "ModelFileError",
    "OptionError",
    "PromptTooLongError",
    "QueueFullError",
    "TooManyImagesError",
    "ToolError",
    "TuningError",
    "UnreadableFileError",
    "UnsafePathError",
    "VisionRunError",
    "WidthMismatchError",
    "WorkerEndedError",
]
