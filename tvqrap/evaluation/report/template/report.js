"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.images.length) return;
  const at = (id) => document.getElementById(id);
  const stage = at("stage"), divider = at("divider");
  const layers = { left: at("left"), right: at("right") };
  const SMALLEST_ZOOM = 1, LARGEST_ZOOM = 24;

  // Centre (as parts of the image) and zoom (relative to the fitted size) of the visible part are
  // shared by the stage and all panels.
  const state = { metric: null, image: 0, left: 0, right: 0, split: 0.5, zoom: 1, x: 0.5, y: 0.5 };

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const current = () => data.images[state.image];
  const metrics = new Map(data.metrics.map((metric) => [metric.name, metric]));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  function visible() {
    const all = data.images.map((_, index) => index);
    return state.metric === null
      ? all
      : all.filter((index) => data.images[index].reasons.some(([name]) => name === state.metric));
  }

  function why(image) {
    const reasons = image.reasons.filter(([name]) => state.metric === null || name === state.metric);
    return reasons.map(([name, place]) => `${place} ${metrics.get(name).title}`);
  }

  function chips() {
    const named = data.metrics.filter(({ name }) =>
      data.images.some((image) => image.reasons.some(([reason]) => reason === name)));
    const choices = [[null, "All cases"], ...named.map(({ name, title }) => [name, title])];
    at("metrics").replaceChildren(...choices.map(([name, title]) => {
      const chip = element("button", "", title);
      chip.type = "button";
      chip.setAttribute("aria-pressed", String(state.metric === name));
      chip.onclick = () => {
        state.metric = name;
        if (!visible().includes(state.image)) state.image = visible()[0];
        chips();
        choose(state.image);
      };
      return chip;
    }));
  }

  function strip() {
    const focus = focusCell(current());
    at("strip").replaceChildren(...visible().map((index) => {
      const image = data.images[index];
      const button = element("button");
      const thumb = element("img");
      thumb.src = image.cells[Math.min(focus, image.cells.length - 1)].uri;
      thumb.alt = "";
      button.type = "button";
      button.title = `${image.name}\n${why(image).join(", ")}`;
      button.append(thumb, element("span", "", why(image)[0] || image.name));
      button.setAttribute("aria-pressed", String(index === state.image));
      button.onclick = () => choose(index);
      return button;
    }));
    const pressed = at("strip").querySelector('[aria-pressed="true"]');
    if (pressed) at("strip").scrollLeft = pressed.offsetLeft - at("strip").offsetLeft - 120;
  }

  // The last picture before HR, which is that of the last model.
  function focusCell(image) {
    const last = image.cells.length - 1;
    return image.cells[last].name === "HR" && last > 0 ? last - 1 : last;
  }

  function choose(index) {
    state.image = index;
    const image = current(), last = image.cells.length - 1;
    state.left = clamp(state.left, 0, last);
    state.right = clamp(state.right, 0, last);
    stage.style.aspectRatio = `${image.size[0]} / ${image.size[1]}`;
    strip();
    panels();
    const part = image.box ? `, ${image.size.join("×")} of it` : `, ${image.size.join("×")}`;
    const reasons = why(image);
    at("caption").textContent = image.name + part + (reasons.length ? ` · ${reasons.join(" · ")}` : "");
    pictures();
  }

  function panels() {
    const image = current();
    const metric = metrics.get(state.metric) || data.metrics[0];
    const values = image.cells.map((cell) => metric && cell.scores[metric.name]);
    const known = values.filter((value) => value !== undefined);
    const top = known.length > 1 && (metric.better === "higher" ? Math.max : Math.min)(...known);
    at("shown").textContent = known.length
      ? `${metric.title} ${metric.better === "higher" ? "↑" : "↓"} of this image`
      : "";
    at("panels").replaceChildren(...image.cells.map((cell, index) => {
      const panel = element("button", "panel");
      const frame = element("div", "window");
      const picture = element("img");
      picture.src = cell.uri;
      picture.alt = "";
      frame.style.aspectRatio = `${image.size[0]} / ${image.size[1]}`;
      frame.append(picture);
      const line = element("div");
      line.append(element("span", "name", `${index + 1} ${cell.name}`));
      if (values[index] !== undefined) {
        const best = values[index] === top ? "score top" : "score";
        line.append(element("span", best, values[index].toFixed(metric.digits)));
      }
      panel.type = "button";
      panel.title = `${cell.name}\nclick: right side; Shift and click: left side`;
      panel.append(frame, line);
      panel.onclick = (event) => {
        state[event.shiftKey ? "left" : "right"] = index;
        pictures();
      };
      return panel;
    }));
  }

  function pictures() {
    const image = current();
    for (const side of ["left", "right"]) {
      const cell = image.cells[state[side]];
      layers[side].firstElementChild.src = cell.uri;
      at(`${side}-name`).textContent = cell.name;
    }
    [...at("panels").children].forEach((panel, index) => {
      panel.classList.toggle("on-left", index === state.left);
      panel.classList.toggle("on-right", index === state.right);
    });
    draw();
  }

  function place(picture, frame, isLr) {
    const [width, height] = current().size;
    const bounds = { width: frame.clientWidth, height: frame.clientHeight };
    const scale = Math.min(bounds.width / width, bounds.height / height) * state.zoom;
    picture.style.width = `${width * scale}px`;
    picture.style.height = `${height * scale}px`;
    picture.style.left = `${bounds.width / 2 - state.x * width * scale}px`;
    picture.style.top = `${bounds.height / 2 - state.y * height * scale}px`;
    // LR and strongly zoomed pictures are shown as sharp pixels.
    picture.classList.toggle("sharp", isLr || scale * devicePixelRatio >= 3);
  }

  function draw() {
    const image = current();
    const half = 0.5 / state.zoom;
    state.x = clamp(state.x, half, 1 - half);
    state.y = clamp(state.y, half, 1 - half);
    for (const side of ["left", "right"]) {
      place(layers[side].firstElementChild, stage, image.cells[state[side]].name === "LR");
    }
    [...at("panels").children].forEach((panel, index) => {
      const frame = panel.firstElementChild;
      place(frame.firstElementChild, frame, image.cells[index].name === "LR");
    });
    layers.right.style.clipPath = `inset(0 0 0 ${100 * state.split}%)`;
    divider.style.left = `${100 * state.split}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * state.split)));
  }

  function zoomAt(factor, px, py) {
    const [width, height] = current().size;
    const fit = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    const before = fit * state.zoom;
    state.zoom = clamp(state.zoom * factor, SMALLEST_ZOOM, LARGEST_ZOOM);
    const after = fit * state.zoom;
    // The point under the pointer does not move.
    state.x += (px - stage.clientWidth / 2) * (1 / before - 1 / after) / width;
    state.y += (py - stage.clientHeight / 2) * (1 / before - 1 / after) / height;
    draw();
  }

  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    const bounds = stage.getBoundingClientRect();
    const near = Math.abs(event.clientX - bounds.left - state.split * bounds.width) < 20;
    drag = { line: near || state.zoom === 1, x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
    if (drag.line) moveLine(event);
    divider.focus({ preventScroll: true });
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.line) {
      moveLine(event);
      return;
    }
    const [width, height] = current().size;
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height) * state.zoom;
    state.x -= (event.clientX - drag.x) / (width * scale);
    state.y -= (event.clientY - drag.y) / (height * scale);
    drag.x = event.clientX;
    drag.y = event.clientY;
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });

  function moveLine(event) {
    const bounds = stage.getBoundingClientRect();
    state.split = clamp((event.clientX - bounds.left) / bounds.width, 0, 1);
    draw();
  }

  stage.addEventListener("wheel", (event) => {
    const bounds = stage.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY / 400), event.clientX - bounds.left, event.clientY - bounds.top);
    event.preventDefault();
  }, { passive: false });

  function step(by) {
    const shown = visible();
    choose(shown[(shown.indexOf(state.image) + by + shown.length) % shown.length]);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    const middle = [stage.clientWidth / 2, stage.clientHeight / 2];
    const far = event.shiftKey ? 0.1 : 0.02;
    // Outside the viewer the arrows scroll the page.
    const here = at("pictures").parentElement.contains(document.activeElement);
    if (digit && Number(digit[1]) <= current().cells.length) {
      state[event.shiftKey ? "left" : "right"] = Number(digit[1]) - 1;
      pictures();
    } else if (here && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      state.split = clamp(state.split + (event.key === "ArrowLeft" ? -far : far), 0, 1);
      draw();
    } else if (document.activeElement === divider && (event.key === "Home" || event.key === "End")) {
      state.split = event.key === "Home" ? 0 : 1;
      draw();
    } else if (here && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      step(event.key === "ArrowUp" ? -1 : 1);
    } else if (event.key === "+" || event.key === "=") {
      zoomAt(1.25, ...middle);
    } else if (event.key === "-") {
      zoomAt(0.8, ...middle);
    } else if (event.key === "0") {
      Object.assign(state, { zoom: 1, x: 0.5, y: 0.5 });
      draw();
    } else {
      return;
    }
    event.preventDefault();
  });

  const image = current();
  state.right = focusCell(image);
  const bicubic = image.cells.findIndex((cell) => cell.name.includes("bicubic"));
  state.left = bicubic >= 0 ? bicubic : 0;
  new ResizeObserver(draw).observe(stage);
  chips();
  choose(0);
})();
