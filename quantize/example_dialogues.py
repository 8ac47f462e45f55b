"""Example dialogues: drawn pictures with what both stages would write about them.

A build compares a quantized model with its source on the prompts of some examples, and may collect
an importance matrix on those of the others. It needs no data for that. The examples say nothing
about how good a model is, since both sides of the comparison are forms of one model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Size = tuple[int, int]
Draw = Callable[[ImageDraw.ImageDraw], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture, a question, and both stages' words.

    Attributes:
        size: width and height of the picture, pixels.
        draw: draws it on a light ground.
        question: with its options.
        hint: what the description shall pay attention to.
        extraction: a description.
        reasoning: a thought that leads to the answer.
        answer: the last line.
    """

    size: Size
    draw: Draw
    question: str
    hint: str
    extraction: str
    reasoning: str
    answer: str

    def picture(self) -> Image.Image:
        """Draw the picture; the same pixels each time."""
        width, height = self.size
        slope = (
            np.linspace(200, 250, width)[None, :, None] + np.linspace(-25, 5, height)[:, None, None]
        )
        grain = np.random.default_rng([width, height]).normal(0, 4, (height, width, 3))
        ground = np.clip(slope + grain, 0, 255).astype(np.uint8)
        picture = Image.fromarray(ground)
        self.draw(ImageDraw.Draw(picture))
        return picture


def _balls(pen: ImageDraw.ImageDraw) -> None:
    for x, colour in ((60, "firebrick"), (240, "royalblue"), (420, "firebrick")):
        pen.ellipse((x, 200, x + 140, 340), colour, "black", 3)
    pen.rectangle((250, 60, 370, 180), "seagreen", "black", 3)


def _chart(pen: ImageDraw.ImageDraw) -> None:
    font = ImageFont.load_default(22)
    pen.line((60, 20, 60, 340, 470, 340), "black", 3)
    for number, (name, value) in enumerate((("Mon", 12), ("Tue", 30), ("Wed", 18), ("Thu", 24))):
        x = 90 + number * 95
        pen.rectangle((x, 340 - value * 9, x + 60, 340), "steelblue", "black", 2)
        pen.text((x + 30, 325 - value * 9), str(value), "black", font, anchor="mm")
        pen.text((x + 30, 360), name, "black", font, anchor="mm")


def _sign(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle((180, 260, 200, 500), "dimgray")
    pen.rounded_rectangle((40, 60, 340, 270), 20, "darkgreen", "white", 6)
    pen.text((190, 120), "EXIT 24", "white", ImageFont.load_default(54), anchor="mm")
    pen.text((190, 200), "Harbour 3 km", "white", ImageFont.load_default(36), anchor="mm")


def _clock(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse((60, 40, 360, 340), "white", "saddlebrown", 12)
    for hour in range(12):
        angle = hour * np.pi / 6
        x, y = 210 + 120 * np.sin(angle), 190 - 120 * np.cos(angle)
        pen.text((x, y), str(hour or 12), "black", ImageFont.load_default(24), anchor="mm")
    pen.line((210, 190, 210, 90), "black", 5)
    pen.line((210, 190, 270, 190), "black", 9)


def _receipt(pen: ImageDraw.ImageDraw) -> None:
    font = ImageFont.load_default(26)
    pen.rectangle((70, 30, 370, 440), "white", "gray", 2)
    rows = (("Bread", "2.40"), ("Milk", "1.10"), ("Apples", "3.20"), ("TOTAL", "6.70"))
    for number, (name, price) in enumerate(rows):
        pen.text((95, 80 + number * 80), name, "black", font)
        pen.text((345, 80 + number * 80), price, "black", font, anchor="ra")
    pen.line((90, 305, 350, 305), "black", 2)


EXAMPLES = (
    Example(
        size=(620, 400),
        draw=_balls,
        question="How many red balls are there?\nA. One\nB. Two\nC. Three\nD. Four",
        hint="the number of balls and their colours",
        extraction="The image shows three balls in a row on a light grey ground. The left ball is "
        "red, the middle ball is blue, and the right ball is red. Above the middle ball there is a "
        "green square. All shapes have black outlines. There is no text in the image.",
        reasoning="The description lists three balls: the left one is red, the middle one is blue, "
        "the right one is red. So two of them are red. The square is green and no ball.",
        answer="Answer: B",
    ),
    Example(
        size=(500, 384),
        draw=_chart,
        question="On which day was the value highest?\nA. Mon\nB. Tue\nC. Wed\nD. Thu",
        hint="the heights of the bars and the labels of the days",
        extraction="The image is a bar chart with four blue bars. From left to right, the bars are "
        "labelled Mon, Tue, Wed and Thu. The numbers above the bars are 12 for Mon, 30 for Tue, 18 "
        "for Wed and 24 for Thu. The bar for Tue is the tallest one.",
        reasoning="The values are 12, 30, 18 and 24. The largest of them is 30, which belongs to "
        "Tue.",
        answer="Answer: B",
    ),
    Example(
        size=(380, 520),
        draw=_sign,
        question="How far away is the harbour?\nA. 24 km\nB. 2 km\nC. 3 km\nD. 30 km",
        hint="the text on the sign",
        extraction="The image shows a green road sign with a white border and rounded corners on a "
        'grey post. The first line of white text on the sign reads "EXIT 24". The second, smaller '
        'line reads "Harbour 3 km".',
        reasoning='The sign says "Harbour 3 km", so the harbour is three kilometres away. The '
        "number 24 is that of the exit.",
        answer="Answer: C",
    ),
    Example(
        size=(420, 384),
        draw=_clock,
        question="What time does the clock show?\nA. 12:15\nB. 3:00\nC. 9:00\nD. 12:00",
        hint="the positions of the two hands of the clock",
        extraction="The image shows a round clock with a white face, a brown frame and the numbers "
        "1 to 12. The short, thick hand points to the 3 on the right. The long, thin hand points "
        "to the 12 at the top.",
        reasoning="The short hand tells the hour and points to the 3. The long hand tells the "
        "minutes and points to the 12, which means zero minutes. So it is three o'clock.",
        answer="Answer: B",
    ),
    Example(
        size=(440, 480),
        draw=_receipt,
        question="What did the most expensive item cost?\nA. 2.40\nB. 1.10\nC. 6.70\nD. 3.20",
        hint="the items on the receipt and their prices",
        extraction="The image shows a white receipt with four lines of text. The lines read: Bread "
        "2.40, Milk 1.10, Apples 3.20. Below a horizontal line, the last line reads: TOTAL 6.70.",
        reasoning="The items are bread for 2.40, milk for 1.10 and apples for 3.20. The total is "
        "not an item. The most expensive item is the apples.",
        answer="Answer: D",
    ),
)

EVALUATION_EXAMPLES = EXAMPLES[:2]
"""A quantized model is compared with its source on these."""

CALIBRATION_EXAMPLES = EXAMPLES[2:]
"""An importance matrix may be collected on these, which the comparison never sees."""
