"use strict";
// Two pictures of one scene under a divider that moves, with zoom: `comparisonSlider(stage)` builds
// it into an empty element of class `stage`. The evaluation report and the page of `ui` share it.
function comparisonSlider(stage, drawn = () => {}) {
  const SMALLEST_ZOOM = 1, LARGEST_ZOOM = 24, STEP = 0.02, FAR = 0.1;
  // Centre (as parts of the picture) and zoom (relative to the fitted size) of the visible part.
  const view = { width: 1, height: 1, split: 0.5, zoom: 1, x: 0.5, y: 0.5 };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  function element(tag, className) {
    const made = document.createElement(tag);
    made.className = className;
    return made;
  }

  const sides = {};
  for (const side of ["left", "right"]) {
    const layer = element("div", `layer ${side}`), picture = element("img", "whole");
    const detail = element("img", "detail"), tag = element("span", `tag ${side}-name`);
    picture.alt = detail.alt = "";
    detail.hidden = true;
    layer.append(picture, detail);
    sides[side] = { layer, picture, detail, tag, sharp: false };
  }
  sides.right.tag.classList.add("end");
  const divider = element("div", "divider");
  divider.append(element("i", ""));
  for (const [name, value] of Object.entries({
    role: "slider", tabindex: "0", "aria-valuemin": "0", "aria-valuemax": "100",
    "aria-label": "Divider between the pictures, per cent from the left",
  })) divider.setAttribute(name, value);
  stage.append(sides.left.layer, sides.right.layer, sides.left.tag, sides.right.tag, divider);
  let box = null;

  const scaleIn = (frame) => Math.min(frame.clientWidth / view.width, frame.clientHeight / view.height) * view.zoom;

  // Places a picture, or the part `part` of it, so that a frame shows what the stage shows.
  function place(picture, frame, sharp, part = { left: 0, top: 0, width: view.width, height: view.height }) {
    const scale = scaleIn(frame);
    picture.style.width = `${part.width * scale}px`;
    picture.style.height = `${part.height * scale}px`;
    picture.style.left = `${frame.clientWidth / 2 + (part.left - view.x * view.width) * scale}px`;
    picture.style.top = `${frame.clientHeight / 2 + (part.top - view.y * view.height) * scale}px`;
    // Strongly zoomed pictures are shown as sharp pixels.
    picture.classList.toggle("sharp", sharp || scale * devicePixelRatio >= 3);
  }

  function draw() {
    const half = 0.5 / view.zoom;
    view.x = clamp(view.x, half, 1 - half);
    view.y = clamp(view.y, half, 1 - half);
    for (const { picture, detail, sharp } of Object.values(sides)) {
      place(picture, stage, sharp);
      if (box) place(detail, stage, sharp, box);
    }
    sides.right.layer.style.clipPath = `inset(0 0 0 ${100 * view.split}%)`;
    divider.style.left = `${100 * view.split}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * view.split)));
    // A finger scrolls the page over a picture that is not zoomed.
    stage.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
    drawn();
  }

  // Shows two pictures, {uri, name, sharp}, of one size; the view stays as it is.
  function show(left, right, width, height) {
    Object.assign(view, { width, height });
    stage.style.aspectRatio = `${width} / ${height}`;
    for (const [side, given] of Object.entries({ left, right })) {
      sides[side].picture.src = given.uri;
      sides[side].tag.textContent = given.name;
      sides[side].sharp = Boolean(given.sharp);
    }
    detail(null);
    draw();
  }

  // Lays finer pictures over a part {left, top, width, height} of both, or none.
  function detail(part, left = "", right = "") {
    box = part;
    for (const [side, uri] of Object.entries({ left, right })) {
      sides[side].detail.hidden = part === null;
      if (part) sides[side].detail.src = uri;
    }
    if (part) draw();
  }

  function reset() {
    Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
    draw();
  }

  function zoomAt(factor, px = stage.clientWidth / 2, py = stage.clientHeight / 2) {
    const before = scaleIn(stage);
    view.zoom = clamp(view.zoom * factor, SMALLEST_ZOOM, LARGEST_ZOOM);
    const after = scaleIn(stage);
    // The point under the pointer does not move.
    view.x += (px - stage.clientWidth / 2) * (1 / before - 1 / after) / view.width;
    view.y += (py - stage.clientHeight / 2) * (1 / before - 1 / after) / view.height;
    draw();
  }

  function pan(dx, dy) {
    view.x -= dx / (view.width * scaleIn(stage));
    view.y -= dy / (view.height * scaleIn(stage));
    draw();
  }

  function moveDivider(event) {
    const bounds = stage.getBoundingClientRect();
    view.split = clamp((event.clientX - bounds.left) / bounds.width, 0, 1);
    draw();
  }

  const pointers = new Map();
  let onDivider = false;
  const spread = () => {
    const [first, second] = [...pointers.values()];
    return Math.hypot(first.x - second.x, first.y - second.y);
  };
  stage.addEventListener("pointerdown", (event) => {
    const bounds = stage.getBoundingClientRect();
    const near = Math.abs(event.clientX - bounds.left - view.split * bounds.width) < 20;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    onDivider = pointers.size === 1 && (near || view.zoom === 1);
    stage.setPointerCapture(event.pointerId);
    if (onDivider) moveDivider(event);
    divider.focus({ preventScroll: true });
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const before = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (pointers.size === 2) {
      const bounds = stage.getBoundingClientRect();
      const [first, second] = [...pointers.values()];
      const middle = [(first.x + second.x) / 2 - bounds.left, (first.y + second.y) / 2 - bounds.top];
      if (before) zoomAt(spread() / before, ...middle);
    } else if (onDivider) {
      moveDivider(event);
    } else {
      pan(event.clientX - last.x, event.clientY - last.y);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      onDivider = false;
    });
  }
  stage.addEventListener("wheel", (event) => {
    const bounds = stage.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY / 400), event.clientX - bounds.left, event.clientY - bounds.top);
    event.preventDefault();
  }, { passive: false });

  // Answers a key; `here` is whether arrows are for the slider. Returns whether it was one of ours.
  function key(event, here) {
    const far = event.shiftKey ? FAR : STEP;
    if (here && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      view.split = clamp(view.split + (event.key === "ArrowLeft" ? -far : far), 0, 1);
      draw();
    } else if (document.activeElement === divider && (event.key === "Home" || event.key === "End")) {
      view.split = event.key === "Home" ? 0 : 1;
      draw();
    } else if (event.key === "+" || event.key === "=") {
      zoomAt(1.25);
    } else if (event.key === "-") {
      zoomAt(0.8);
    } else if (event.key === "0") {
      reset();
    } else {
      return false;
    }
    return true;
  }

  new ResizeObserver(draw).observe(stage);
  return { view, divider, show, detail, place, draw, reset, zoomAt, pan, key };
}
