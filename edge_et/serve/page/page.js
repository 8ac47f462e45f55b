"use strict";

// In: pictures, a question, and events of the server. Out: what this page shows. What models wrote
// is text, never HTML.

const $ = (id) => document.getElementById(id);

// Kinds that the server reads; the browser draws others anew as JPEG where it can.
const READ_BY_SERVER = /^image\/(jpeg|png|gif|webp|bmp|x-ms-bmp|tiff|x-portable-\w+)$/;
const LONGEST_SIDE = 4096;
const JPEG_QUALITY = 0.95;

const STEPS = {
  vision: "Looking at the picture",
  hint: "Asking what matters",
  extract: "Writing down what it sees",
  think: "Thinking",
  answer: "Answering",
};
const STAGES = [
  ["look", "Look", ["image", "vision"]],
  ["extract", "Hint", ["hint"]],
  ["extract", "Extract", ["extract"]],
  ["think", "Think and answer", ["think"]],
];
const CUTS = {
  length: "its budget of tokens was used up",
  deadline: "time was up",
  repetition: "it repeated itself",
};
const CUT_STAGES = { hint: "hint", extract: "extraction", think: "thinking", answer: "answer" };

let pictures = [];
let running = null; // what ends the question that is under way, and how many pictures it has
let limits = { max_body_bytes: Infinity, max_images: Infinity };
let stage = "";

// The tab keeps it over a reload, unless the browser refuses that; nothing keeps it for longer.
const key = {
  value: "",
  read() {
    try {
      return sessionStorage.getItem("key") ?? key.value;
    } catch {
      return key.value;
    }
  },
  write(value) {
    key.value = value;
    try {
      sessionStorage.setItem("key", value);
    } catch {
      // It is in memory.
    }
  },
};

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, init = {}) {
  const given = key.read();
  const headers = given ? { Authorization: `Bearer ${given}` } : {};
  const response = await fetch(path, { ...init, headers: { ...headers, ...init.headers } });
  if (response.ok) return response;
  let message = `The server answered with status ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // A proxy's page tells nothing that belongs here.
  }
  throw new Refusal(response.status, message);
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function fill(parent, children) {
  parent.replaceChildren(...children);
  parent.hidden = children.length === 0;
}

function sentence(text) {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

// Pictures

function addFiles(files) {
  tellError("");
  for (const file of files) {
    if (file.type && !file.type.startsWith("image/")) {
      tellError(`This is no picture: ${file.name}`);
    } else if (pictures.length >= limits.max_images) {
      tellError(`This server takes up to ${limits.max_images} pictures in one question.`);
    } else {
      pictures.push(newPicture(file));
    }
  }
  showPictures();
}

function newPicture(file) {
  const name = file.name || "picture";
  const image = element("img", { src: URL.createObjectURL(file), alt: name });
  const isShown = image.decode().then(
    () => true,
    () => {
      image.removeAttribute("src"); // or a broken picture would be drawn
      image.alt = `${name}, without a preview`;
      return false;
    },
  );
  return { file, name, image, isShown };
}

function showPictures() {
  const items = pictures.map((picture) => {
    const remove = element("button", { type: "button", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${picture.name}`);
    remove.addEventListener("click", () => removePicture(picture));
    return element("li", {}, picture.image, element("span", { textContent: picture.name }), remove);
  });
  fill($("pictures"), items);
}

function removePicture(picture) {
  const index = pictures.indexOf(picture);
  pictures = pictures.filter((other) => other !== picture);
  showPictures();
  const buttons = $("pictures").querySelectorAll("button");
  (buttons[Math.min(index, buttons.length - 1)] ?? $("files")).focus();
  $("status").textContent = `${picture.name} was removed.`;
}

async function toDataUrl(picture) {
  const isDrawnAnew = !READ_BY_SERVER.test(picture.file.type) && (await picture.isShown);
  return isDrawnAnew ? drawnAnew(picture.image) : fileAsDataUrl(picture.file);
}

function fileAsDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Refusal(0, `This file cannot be read any more: ${file.name}`));
    reader.readAsDataURL(file);
  });
}

function drawnAnew(image) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const width = Math.max(1, Math.round(image.naturalWidth * scale));
  const height = Math.max(1, Math.round(image.naturalHeight * scale));
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // where the server puts what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  return canvas.toDataURL("image/jpeg", JPEG_QUALITY);
}

// Asking

function readForm() {
  const wanted = { question: $("question").value.trim() };
  if (!wanted.question) throw invalid("question", "Write a question.");
  if ($("model").value) wanted.model = $("model").value;
  const form = $("form").value;
  if (form === "choices") {
    const lines = $("choices").value.split("\n").map((line) => line.trim());
    wanted.choices = lines.filter(Boolean);
    if (wanted.choices.length < 2) throw invalid("choices", "Write two choices or more.");
  } else if (form === "schema") {
    try {
      wanted.schema = JSON.parse($("schema").value);
    } catch (err) {
      throw invalid("schema", `The schema is no JSON: ${err.message}`);
    }
  } else if (form) {
    wanted.kind = form;
  }
  return wanted;
}

function invalid(id, message) {
  const field = $(id);
  field.setAttribute("aria-invalid", "true");
  field.focus();
  return new Refusal(0, message);
}

function tellError(message) {
  $("error").textContent = message && sentence(message);
}

async function ask(prepare) {
  if (running) return;
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
  }
  tellError("");
  const begun = performance.now();
  const isAgain = "extraction" in prepare;
  const shown = isAgain ? [] : [...pictures];
  const control = new AbortController();
  const { signal } = control;
  running = { abort: () => control.abort(), pictures: shown.length };
  try {
    const wanted = readForm();
    begin(isAgain);
    const sent = await Promise.all(shown.map(toDataUrl));
    const body = JSON.stringify({ ...wanted, ...prepare, pictures: sent });
    if (body.length > limits.max_body_bytes) {
      const [has, most] = [body.length, limits.max_body_bytes].map(megabytes);
      throw new Refusal(0, `The pictures make ${has} MB, this server takes ${most} MB`);
    }
    signal.throwIfAborted();
    const init = { method: "POST", body, signal, headers: { "Content-Type": "application/json" } };
    const answer = await follow(await request("edge-et/ask", init));
    end(`Answer: ${answer.text}`);
    showAnswer(answer, (performance.now() - begun) / 1000);
    remember(wanted.question, answer, shown, isAgain);
  } catch (err) {
    fail(err, signal);
  } finally {
    running = null;
  }
}

function megabytes(bytes) {
  return (bytes / 2 ** 20).toFixed(1);
}

function begin(isAgain) {
  stage = "";
  setRunning(true);
  $("status").textContent = "Waiting for the server";
  delete $("extraction").dataset.picture;
  if (!isAgain) $("extraction").value = "";
  for (const id of ["reasoning", "answer"]) $(id).textContent = "";
  $("answer").classList.remove("code");
  for (const id of ["shares", "sure", "notes"]) fill($(id), []);
  $("time").hidden = true;
}

function end(status) {
  setRunning(false);
  $("status").textContent = status;
}

function setRunning(is) {
  const hadFocus = document.activeElement === $("stop");
  for (const id of ["ask", "rethink"]) $(id).setAttribute("aria-disabled", String(is));
  $("extraction").readOnly = is;
  $("stop").hidden = !is;
  $("under-way").hidden = !is;
  $("progress").removeAttribute("value");
  $("step").textContent = "";
  if (hadFocus && !is) $("question").focus();
}

function fail(err, signal) {
  if (signal.aborted) {
    end("Stopped.");
    return;
  }
  end("");
  if (err instanceof Refusal) {
    tellError(err.message);
    if (err.status === 401) askForKey("");
    return;
  }
  console.error(err);
  tellError("The server cannot be reached, or the connection ended before the answer.");
}

async function follow(response) {
  for await (const event of eventsOf(response.body)) {
    if (event.type === "done") return event.answer;
    if (event.type === "error") throw new Refusal(event.status, event.message);
    if (event.type === "progress") showProgress(event);
    else showText(event);
  }
  throw new Refusal(0, "The connection ended before the answer.");
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      // Others are comments, which keep the connection alive.
      if (part.startsWith("data: ")) yield JSON.parse(part.slice("data: ".length));
    }
  }
}

// Showing

function showProgress({ stage: now, phase, done, total, picture }) {
  const isOfOne = running.pictures > 1 && (now === "vision" || now === "extract");
  const which = isOfOne ? `, picture ${picture + 1} of ${running.pictures}` : "";
  if (now + which !== stage) {
    stage = now + which; // told to screen readers once a stage
    $("status").textContent = STEPS[now] + which;
  }
  $("progress").max = Math.max(total, 1);
  $("progress").value = done;
  const step = { encode: "Tile", prefill: "Reads", decode: "Writes" }[phase];
  const unit = { encode: "", prefill: " positions", decode: " tokens at most" }[phase];
  $("step").textContent = `${step} ${done} of ${total}${unit}`;
}

function showText({ type, text, picture }) {
  if (type !== "extraction") {
    $(type).textContent = joined($(type).textContent, text);
    return;
  }
  const field = $("extraction");
  const isNext = picture > Number(field.dataset.picture ?? 0) && field.value;
  field.value = isNext ? `${field.value}\n${text.trimStart()}` : joined(field.value, text);
  field.dataset.picture = picture;
  field.scrollTop = field.scrollHeight;
}

function joined(before, text) {
  return before ? before + text : text.trimStart();
}

function showAnswer(answer, seconds) {
  $("extraction").value = answer.extraction;
  $("reasoning").textContent = answer.reasoning;
  const isJson = answer.value !== null && typeof answer.value === "object";
  $("answer").textContent = isJson ? JSON.stringify(answer.value, null, 2) : answer.text;
  $("answer").classList.toggle("code", isJson);
  const shares = Object.entries(answer.shares).sort((a, b) => b[1] - a[1]);
  fill($("shares"), shares.map(([text, share]) => bar(share, `${text}: ${percent(share)}`)));
  fill($("sure"), answer.confidence ? [surenessOf(answer.confidence)] : []);
  fill($("notes"), notesOf(answer).map((textContent) => element("li", { textContent })));
  fill($("times"), timesOf(answer.usage));
  $("time").hidden = false;
  $("total").textContent = `${duration(seconds)} in all, as this page saw it.`;
}

function notesOf({ finish_reasons: reasons }) {
  return Object.entries(reasons)
    .filter(([, reason]) => reason !== "stop")
    .map(([name, reason]) => `The ${CUT_STAGES[name]} was cut: ${CUTS[reason]}.`);
}

function surenessOf({ answer, seeing, thinking }) {
  const stages = [
    ["seeing", seeing],
    ["thinking", thinking],
  ].filter(([, sure]) => sure !== null);
  const each = stages.map(([name, sure]) => `${name} ${sure.toFixed(2)}`).join(", ");
  return `How sure: ${answer.toFixed(2)} of 1${each && ` (${each})`}. It can be sure and wrong.`;
}

function timesOf(usage) {
  const took = STAGES.map(([kind, name, phases]) => {
    const parts = phases.map((phase) => usage[phase]).filter(Boolean);
    const sum = (field) => parts.reduce((all, part) => all + part[field], 0);
    return { kind, name, sum, seconds: sum("seconds") };
  }).filter(({ seconds }) => seconds > 0);
  const longest = Math.max(...took.map(({ seconds }) => seconds));
  return took.map(({ kind, name, sum, seconds }) =>
    bar(seconds / longest, `${name}: ${duration(seconds)}`, countsOf(kind, sum), kind),
  );
}

function countsOf(kind, sum) {
  const [anew, reused] = [sum("evaluated_tokens"), sum("reused_tokens")];
  if (kind === "look") {
    return `${anew} image tokens made, ${reused} known from before`;
  }
  return `${anew} positions read, ${reused} reused, ${sum("generated_tokens")} tokens written`;
}

function bar(share, text, more = "", kind = "") {
  const drawn = element("div", { className: `bar ${kind}` });
  drawn.style.width = `${100 * share}%`;
  const item = element("li", {}, text, drawn);
  if (more) item.append(element("div", { className: "hint", textContent: more }));
  return item;
}

function duration(seconds) {
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.1 ? 0 : 1)} %`;
}

function remember(question, answer, shown, isAgain) {
  const phases = ["extract", "think"].map((phase) => answer.usage[phase]).filter(Boolean);
  const reused = phases.reduce((all, phase) => all + phase.reused_tokens, 0);
  const all = phases.reduce((sum, phase) => sum + phase.evaluated_tokens, reused);
  const seconds = Object.values(answer.usage).reduce((sum, phase) => sum + phase.seconds, 0);
  const { evaluated_tokens: made, reused_tokens: known } = answer.usage.vision;
  const looked = [made && `${made} image tokens made`, known && `${known} image tokens known`];
  const again = isAgain && "thought again";
  const told = [duration(seconds), again, ...looked, `${reused} of ${all} positions reused`];
  const thumbs = shown.map(({ image }) => image.cloneNode());
  const rows = [
    ["Extraction", answer.extraction],
    ["Thinking", answer.reasoning],
    ["Answer", answer.text],
  ];
  const list = rows.flatMap(([name, textContent]) => [
    element("dt", { textContent: name }),
    element("dd", { className: "text", textContent }),
  ]);
  const summary = element(
    "summary",
    {},
    element("b", { textContent: question }),
    element("span", { textContent: answer.text }),
    element("span", { className: "hint", textContent: told.filter(Boolean).join(", ") }),
  );
  $("history").prepend(
    element("li", {}, element("details", {}, summary, ...thumbs, element("dl", {}, ...list))),
  );
  $("no-history").hidden = true;
}

// The server

function askForKey(message) {
  $("key-form").hidden = false;
  $("key-error").textContent = message;
  $("key").focus();
}

async function greet() {
  try {
    limits = await (await request("edge-et/server")).json();
  } catch (err) {
    if (err.status === 401) askForKey(key.read() ? "The key is wrong." : "");
    else tellError(err instanceof Refusal ? err.message : "The server cannot be reached.");
    return;
  }
  $("key-form").hidden = true;
  const options = limits.models.map((name) => element("option", { value: name, textContent: name }));
  $("model").replaceChildren(...options);
  $("model-box").hidden = options.length < 2;
}

function showFields() {
  for (const name of ["choices", "schema"]) $(`${name}-box`).hidden = $("form").value !== name;
}

// What happens

for (const id of ["files", "camera"]) {
  $(id).addEventListener("change", ({ target }) => {
    addFiles([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
}

$("form").addEventListener("change", showFields);

$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask({});
});

$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask({});
});

$("rethink").addEventListener("click", () => ask({ extraction: $("extraction").value }));

$("stop").addEventListener("click", () => running?.abort());

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  if (!/^[\x20-\x7e]+$/.test(given)) {
    $("key-error").textContent = "A key has ASCII characters alone.";
    return;
  }
  key.write(given);
  await greet();
  if ($("key-form").hidden) {
    tellError("");
    $("question").focus();
  }
});

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  addFiles(files);
});

for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dragging", type === "dragover");
    if (type === "drop") addFiles([...event.dataTransfer.files]);
  });
}

showFields();
greet();
