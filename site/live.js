// The live view: fetches machine.json each second and draws it. No library, no other source.
//
// Rules: text from the machine goes in as text, never as markup. Tables are updated in place,
// so that focus, selection and scroll positions survive. Screen readers are told when the
// machine stops or starts answering and what the map's cursor is on, nothing each second.
"use strict";

const PERIOD = 1000;   // ms between the beginnings of two requests
const PATIENCE = 2500; // ms until a request counts as unanswered
const HISTORY = 60;    // points in the small curves
const PAGE = 4096;

// Okabe and Ito's colours, which people with colour blindness can tell apart.
const HUES = ["#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7b5fc7"];
const TYPES = ["free", "data", "page table", "environment", "context", "flow", "ring", "program",
  "device", "kernel", "exposed", "absent"];
const [FREE, DATA, TABLE, , , , , , , KERNEL, EXPOSED, ABSENT] = TYPES.keys();
const ENV_STATES = ["", "live", "stopped", "dying"];
const CONTEXT_STATES = ["", "ready", "sleeping", "calling"];

const $ = id => document.getElementById(id);
const names = new Map();  // environment's page -> name
const colours = new Map(); // environment's page -> colour
let shown = null;         // the last answer
let before = null;        // and the one before it
let lastAnswer = 0;

// ---- words and numbers

const count = n => Math.round(n).toLocaleString("en");

function size(pages) {
  const mib = pages * PAGE / 1048576;
  if (mib >= 1024) return (mib / 1024).toFixed(1) + " GB";
  if (mib >= 10) return Math.round(mib) + " MB";
  return mib >= 1 ? mib.toFixed(1) + " MB" : Math.round(pages * PAGE / 1024) + " KB";
}

function duration(ms) {
  const s = Math.floor(ms / 1000), part = n => String(n).padStart(2, "0");
  const time = `${part(Math.floor(s / 60) % 60)}:${part(s % 60)}`;
  if (s < 3600) return time;
  const h = Math.floor(s / 3600);
  return h < 24 ? `${h}:${time}` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

function bytes(n) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (n < 1000) return (n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)) + " " + unit;
    n /= 1000;
  }
  return n.toFixed(1) + " TB";
}

// How fast a number grew between the last two answers, per second of the machine's time.
function rate(now, then) {
  const ms = before ? shown.uptime_ms - before.uptime_ms : 0;
  return ms > 0 && then !== undefined && now >= then ? (now - then) * 1000 / ms : 0;
}

const perSecond = n => n ? (n < 10 ? n.toFixed(1) : count(n)) + "/s" : "–";

function owner(page) {
  return page ? names.get(page) || `env ${page}` : "kernel";
}

// ---- colours: the owner's hue; tables darker, what is not plain memory lighter

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colourOf(page) {
  if (!page) return css("--kernel");
  if (!colours.has(page)) colours.set(page, HUES[colours.size % HUES.length]);
  return colours.get(page);
}

function shade(hex, amount) { // -1: black, 1: white
  const part = i => {
    const v = parseInt(hex.slice(i, i + 2), 16);
    return Math.round(amount < 0 ? v * (1 + amount) : v + (255 - v) * amount);
  };
  return `rgb(${part(1)}, ${part(3)}, ${part(5)})`;
}

function pageColour(type, page) {
  if (type === FREE) return css("--empty");
  if (type === ABSENT) return "transparent";
  const base = colourOf(page);
  if (type === DATA || type === KERNEL) return base;
  return shade(base, type === TABLE ? -0.35 : type === EXPOSED ? 0.35 : 0.45);
}

// ---- building and updating the document

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function setText(e, text) {
  if (e.textContent !== String(text)) e.textContent = text;
}

// A cell's value is text, or {text, colour, meter}.
function fillCell(cell, value) {
  const v = typeof value === "object" ? value : { text: value };
  const key = JSON.stringify(v);
  if (cell.dataset.value === key) return;
  cell.dataset.value = key;
  cell.replaceChildren();
  if (v.colour) {
    const swatch = element("span", "swatch");
    swatch.style.background = v.colour;
    cell.append(swatch);
  }
  cell.append(String(v.text));
  if (v.meter !== undefined) {
    const meter = element("span", "meter"), bar = element("i");
    bar.style.width = Math.min(100, v.meter * 100) + "%";
    meter.append(bar);
    cell.append(meter);
  }
}

// columns: [title, class]; rows: arrays of values, the first of which is the row's heading.
function fillTable(table, columns, rows) {
  const titles = columns.map(c => c[0]).join("|");
  if (table.dataset.titles !== titles) {
    table.dataset.titles = titles;
    const line = element("tr");
    for (const [title, className] of columns) {
      const th = element("th", className, title);
      th.scope = "col";
      line.append(th);
    }
    const head = element("thead");
    head.append(line);
    table.replaceChildren(head, element("tbody"));
  }
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, r) => {
    const line = body.rows[r] || body.insertRow();
    row.forEach((value, c) => {
      let cell = line.cells[c];
      if (!cell) {
        cell = element(c ? "td" : "th", columns[c][1]);
        if (!c) cell.scope = "row";
        line.append(cell);
      }
      fillCell(cell, value);
    });
  });
}

// ---- the small curves

const curves = {};

function addPoint(name, value) {
  const points = curves[name] || (curves[name] = []);
  points.push(value);
  if (points.length > HISTORY) points.shift();
  const most = Math.max(...points, 1e-9), svg = $("line-" + name);
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  const first = HISTORY - points.length;
  const line = points.map((p, i) => `${i ? "L" : "M"}${first + i} ${(19 - 18 * p / most).toFixed(2)}`).join("");
  svg.innerHTML = `<path class="area" d="${line}L${HISTORY - 1} 20L${first} 20Z"/><path d="${line}"/>`;
}

// ---- the map of memory

const map = {
  canvas: $("map"), cells: [], columns: 0, cell: 0, cursor: -1, pagesACell: 1,

  // Runs of pages without the large holes of the address space.
  runs() {
    return shown.memory.map.filter(([, length, type]) => type !== ABSENT || length < shown.memory.span / 100);
  },

  layOut() {
    const width = this.canvas.clientWidth;
    if (!width || !shown) return;
    const runs = this.runs();
    const pages = runs.reduce((sum, run) => sum + run[1], 0);
    this.cell = width < 500 ? 7 : 8;
    this.columns = Math.floor(width / this.cell);
    const rows = Math.min(Math.max(16, Math.round(3000 / this.columns)), 44);
    this.pagesACell = Math.max(1, Math.ceil(pages / (rows * this.columns)));
    this.cells = this.divide(runs);
    this.cursor = Math.min(this.cursor, this.cells.length - 1);
    this.draw(width);
  },

  // Each cell shows what most of its pages are; free ones count half, so that little things show.
  divide(runs) {
    const cells = [];
    let left = 0, cell = null;
    const close = () => {
      if (!cell) return;
      let best = null, most = 0;
      for (const part of cell.parts) {
        const weight = part.type === FREE ? part.pages / 2 : part.pages;
        if (weight > most) [best, most] = [part, weight];
      }
      cell.shown = best;
      cells.push(cell);
      cell = null;
    };
    for (const [start, length, type, page] of runs) {
      for (let done = 0; done < length;) {
        if (!cell) {
          cell = { first: start + done, last: 0, parts: [] };
          left = this.pagesACell;
        }
        const part = Math.min(left, length - done);
        cell.parts.push({ type, page, pages: part });
        cell.last = start + done + part - 1;
        done += part;
        left -= part;
        if (!left) close();
      }
    }
    close();
    return cells;
  },

  draw(width) {
    const rows = Math.ceil(this.cells.length / this.columns), ratio = window.devicePixelRatio || 1;
    const height = rows * this.cell, canvas = this.canvas, pen = canvas.getContext("2d");
    canvas.style.height = height + "px";
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const known = new Map();
    this.cells.forEach((cell, i) => {
      const key = cell.shown.type * 4294967296 + cell.shown.page;
      let colour = known.get(key);
      if (!colour) known.set(key, colour = pageColour(cell.shown.type, cell.shown.page));
      pen.fillStyle = colour;
      pen.fillRect(i % this.columns * this.cell, Math.floor(i / this.columns) * this.cell, this.cell - 1, this.cell - 1);
    });
    if (this.cursor >= 0) {
      pen.strokeStyle = css("--ink");
      pen.lineWidth = 2;
      pen.strokeRect(this.cursor % this.columns * this.cell - 0.5,
        Math.floor(this.cursor / this.columns) * this.cell - 0.5, this.cell, this.cell);
    }
    setText($("cell-size"), `One square is ${this.pagesACell > 1 ? count(this.pagesACell) + " pages, " : "one page, "}${size(this.pagesACell)}.`);
  },

  describe(cell) {
    const sums = new Map();
    for (const { type, page, pages } of cell.parts) {
      const what = type === FREE ? "free" : type === ABSENT ? "no memory" :
        type === DATA ? owner(page) : `${owner(page)}: ${TYPES[type] || "unknown"}`;
      sums.set(what, (sums.get(what) || 0) + pages);
    }
    const parts = [...sums].sort((a, b) => b[1] - a[1]);
    const text = parts.length === 1 ? parts[0][0] :
      parts.slice(0, 4).map(([what, pages]) => `${what} (${pages})`).join(", ");
    const range = cell.first === cell.last ? `Page ${count(cell.first)}` : `Pages ${count(cell.first)} to ${count(cell.last)}`;
    return `${range}: ${text}`;
  },

  point(cursor) {
    this.cursor = cursor >= 0 && cursor < this.cells.length ? cursor : -1;
    setText($("readout"), this.cursor < 0 ? "" : this.describe(this.cells[this.cursor]));
    this.draw(this.canvas.clientWidth);
  },

  listen() {
    const c = this.canvas;
    const at = event => {
      const box = c.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / this.cell);
      return column < this.columns ? Math.floor((event.clientY - box.top) / this.cell) * this.columns + column : -1;
    };
    c.addEventListener("pointermove", event => this.point(at(event)));
    c.addEventListener("pointerdown", event => this.point(at(event)));
    c.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") this.point(-1); });
    c.addEventListener("blur", () => this.point(-1));
    c.addEventListener("keydown", event => {
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns,
        PageDown: this.columns * 8, PageUp: -this.columns * 8 };
      const last = this.cells.length - 1;
      let to = this.cursor + (moves[event.key] || 0);
      if (event.key === "Home") to = 0;
      else if (event.key === "End") to = last;
      else if (event.key === "Escape") to = -1;
      else if (!moves[event.key]) return;
      else if (this.cursor < 0) to = 0;
      else to = Math.max(0, Math.min(last, to));
      event.preventDefault();
      this.point(to);
    });
    new ResizeObserver(() => this.layOut()).observe(c.parentElement);
  },
};

// ---- the chart of the processor's shares

const shares = {
  svg: $("shares"),
  points: [],  // oldest first: {at: uptime in ms, parts: [{page, name, share}]}; a share of all processors
  cursor: -1,

  // What each environment ran since the last answer.
  add() {
    const ms = before ? (shown.uptime_ms - before.uptime_ms) * shown.cpus.length : 0;
    if (!before) this.points = [];
    if (ms <= 0) return;
    const parts = [];
    for (const env of shown.envs) {
      const then = before.envs.find(e => e.page === env.page && e.name === env.name);
      parts.push({ page: env.page, name: env.name, share: Math.max(0, env.runtime_ms - (then ? then.runtime_ms : 0)) / ms });
    }
    const sum = parts.reduce((all, part) => all + part.share, 0);
    if (sum > 1) for (const part of parts) part.share /= sum;
    this.points.push({ at: shown.uptime_ms, parts });
    if (this.points.length > HISTORY) this.points.shift();
    else if (this.cursor >= 0) this.cursor++;
    this.cursor = Math.max(-1, this.cursor - 1);
  },

  share(point, page) {
    const part = point.parts.find(p => p.page === page);
    return part ? part.share : 0;
  },

  // Pages of all that were seen, in the order in which they are drawn from the bottom on.
  pages() {
    return [...new Set(this.points.flatMap(point => point.parts.map(part => part.page)))];
  },

  draw() {
    const first = HISTORY - this.points.length, base = this.points.map(() => 0);
    this.svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 100`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    const drawn = [];
    for (const page of this.points.length > 1 ? this.pages() : []) {
      const at = i => `${first + i} ${(100 - 100 * base[i]).toFixed(2)}`;
      const below = this.points.map((_, i) => at(i)).reverse();
      this.points.forEach((point, i) => { base[i] += this.share(point, page); });
      const above = this.points.map((_, i) => at(i));
      drawn.push(this.part("path", { d: `M${above.join("L")}L${below.join("L")}Z`, fill: colourOf(page) }));
    }
    if (this.cursor >= 0) drawn.push(this.part("line", { x1: first + this.cursor, x2: first + this.cursor, y1: 0, y2: 100 }));
    this.svg.replaceChildren(...drawn);
  },

  part(tag, attributes) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
    return e;
  },

  describe(point) {
    const parts = point.parts.filter(part => part.share >= 0.005).sort((a, b) => b.share - a.share);
    const idle = 1 - point.parts.reduce((all, part) => all + part.share, 0);
    const text = parts.map(part => `${part.name} ${Math.round(part.share * 100)} %`);
    text.push(`idle ${Math.round(idle * 100)} %`);
    const ago = Math.round((this.points.at(-1).at - point.at) / 1000);
    return `${ago ? `${ago} s ago` : "Now"}: ${text.join(", ")}`;
  },

  point(cursor) {
    this.cursor = cursor >= 0 && cursor < this.points.length ? cursor : -1;
    setText($("shares-readout"), this.cursor < 0 ? "" : this.describe(this.points[this.cursor]));
    this.draw();
  },

  // Legend and table: the share now, and over all that is drawn.
  list() {
    const last = this.points.at(-1);
    if (!last) return;
    const mean = page => this.points.reduce((all, point) => all + this.share(point, page), 0) / this.points.length;
    const rows = this.pages().map(page => ({ name: owner(page), colour: colourOf(page), now: this.share(last, page), mean: mean(page) }));
    const rest = key => Math.max(0, 1 - rows.reduce((all, row) => all + row[key], 0));
    rows.push({ name: "idle", colour: css("--empty"), now: rest("now"), mean: rest("mean") });
    fillLegend($("shares-legend"), rows.map(row => [row.name, percent(row.now), row.colour]));
    fillTable($("shares-table"), [["Environment"], ["Now"], ["Last minute"]],
      rows.map(row => [{ text: row.name, colour: row.colour }, percent(row.now), percent(row.mean)]));
  },

  listen() {
    const at = event => {
      const box = this.svg.getBoundingClientRect();
      return Math.round((event.clientX - box.left) / box.width * (HISTORY - 1)) - (HISTORY - this.points.length);
    };
    this.svg.addEventListener("pointermove", event => this.point(at(event)));
    this.svg.addEventListener("pointerdown", event => this.point(at(event)));
    this.svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") this.point(-1); });
    this.svg.addEventListener("blur", () => this.point(-1));
    this.svg.addEventListener("keydown", event => {
      const moves = { ArrowRight: 1, ArrowLeft: -1, PageUp: -10, PageDown: 10 }, last = this.points.length - 1;
      let to = this.cursor + (moves[event.key] || 0);
      if (event.key === "Home") to = 0;
      else if (event.key === "End") to = last;
      else if (event.key === "Escape") to = -1;
      else if (!moves[event.key]) return;
      else if (this.cursor < 0) to = last;
      else to = Math.max(0, Math.min(last, to));
      event.preventDefault();
      this.point(to);
    });
  },
};

const percent = share => (share * 100).toFixed(share < 0.1 ? 1 : 0) + " %";

function drawShares() {
  shares.add();
  shares.draw();
  shares.list();
}

// Pages by owner and kind, for the legend and the table.
function tally() {
  const owners = new Map();
  let free = 0;
  for (const [, length, type, page] of shown.memory.map) {
    if (type === ABSENT) continue;
    if (type === FREE) {
      free += length;
      continue;
    }
    const row = owners.get(page) || { data: 0, tables: 0, other: 0 };
    row[type === DATA || type === KERNEL ? "data" : type === TABLE ? "tables" : "other"] += length;
    owners.set(page, row);
  }
  const rows = [...owners].map(([page, row]) => ({ page, ...row, all: row.data + row.tables + row.other }));
  rows.sort((a, b) => b.all - a.all);
  return { rows, free };
}

// items: [name, amount, colour]
function fillLegend(list, items) {
  while (list.children.length > items.length) list.lastChild.remove();
  items.forEach(([name, amount, colour], i) => {
    let item = list.children[i];
    if (!item) {
      item = element("li");
      item.append(element("span", "swatch"), element("span"), element("span", "amount"));
      list.append(item);
    }
    item.children[0].style.background = colour;
    setText(item.children[1], name);
    setText(item.children[2], amount);
  });
}

function drawLegend({ rows, free }) {
  const items = rows.map(row => [owner(row.page), size(row.all), colourOf(row.page)]);
  fillLegend($("legend"), [...items, ["free", size(free), css("--empty")]]);
}

function drawMemory() {
  const sums = tally();
  map.layOut();
  drawLegend(sums);
  const rows = sums.rows.map(r => [{ text: owner(r.page), colour: colourOf(r.page) },
    count(r.data), count(r.tables), count(r.other), count(r.all), size(r.all)]);
  rows.push([{ text: "free", colour: css("--empty") }, "–", "–", "–", count(sums.free), size(sums.free)]);
  fillTable($("memory-table"), [["Owner"], ["Memory"], ["Page tables"], ["Other"], ["Pages"], ["Size"]], rows);
}

// ---- the other parts

function drawTiles() {
  const now = shown, then = before;
  setText($("uptime"), duration(now.uptime_ms));
  setText($("version"), `interface ${now.version}, ${(now.tsc_hz / 1e9).toFixed(2)} GHz`);
  setText($("free"), size(now.memory.free));
  setText($("free-of"), `of ${size(now.memory.pages)}`);
  const ms = then ? now.uptime_ms - then.uptime_ms : 0;
  const used = state => state.cpus.reduce((sum, cpu) => sum + cpu.used.reduce((a, b) => a + b, 0), 0);
  const busy = ms > 0 ? Math.min(1, Math.max(0, (used(now) - used(then)) / ms / now.cpus.length)) : 0;
  setText($("busy"), then ? Math.round(busy * 100) + " %" : "–");
  const requests = rate(now.server.requests, then?.server.requests);
  setText($("requests"), then ? perSecond(requests) : "–");
  const packets = state => state?.trace.reduce((sum, t) => sum + t.packets, 0);
  const frames = rate(packets(now), packets(then));
  setText($("frames"), then ? perSecond(frames) : "–");
  setText($("open"), count(now.server.open));
  setText($("accepted"), `${count(now.server.connections)} accepted, ${count(now.server.requests)} requests`);
  if (!then) return;
  addPoint("busy", busy);
  addPoint("requests", requests);
  addPoint("frames", frames);
}

function drawEnvs() {
  const ms = before ? shown.uptime_ms - before.uptime_ms : 0;
  const rows = shown.envs.map(env => {
    const then = before?.envs.find(e => e.page === env.page);
    const load = then && ms > 0 ? Math.max(0, env.runtime_ms - then.runtime_ms) / ms : 0;
    const contexts = env.contexts.map(c => `${c.cpu}: ${CONTEXT_STATES[c.state] || "?"}`).join(", ");
    return [{ text: env.name, colour: colourOf(env.page) }, env.page,
      ENV_STATES[env.state] || "?", { text: count(env.pages), meter: env.pages / (env.page_limit || 1) },
      count(env.page_limit), env.slices, { text: Math.round(load * 100) + " %", meter: load },
      duration(env.runtime_ms), contexts || "–", env.creator ? owner(env.creator) : "the kernel"];
  });
  fillTable($("envs"), [["Name"], ["Page", "wide"], ["State", "text wide"], ["Pages"], ["Limit", "wide"],
    ["Slices"], ["Load"], ["Ran for", "wide"], ["Contexts by CPU", "text wide"], ["Made by", "text wide"]], rows);
}

function drawCpu(box, cpu) {
  let [head, slots, details] = box.children;
  if (!head) {
    head = element("div", "cpu-head");
    head.append(element("b", "", `CPU ${cpu.cpu}`), element("span"), element("span", "dim"), element("span", "dim"));
    slots = element("ol", "slots");
    slots.setAttribute("role", "img");
    for (let i = 0; i < cpu.slots.length; i++) slots.append(element("li"));
    details = element("details");
    const table = element("table"), scroll = element("div", "scroll");
    scroll.append(table);
    details.append(element("summary", "", "Slices by owner"), scroll);
    box.append(head, slots, details);
  }
  const then = before?.cpus.find(c => c.cpu === cpu.cpu);
  setText(head.children[1], cpu.running ? `running ${owner(cpu.running)}` : "idle");
  setText(head.children[2], `slices of ${Math.round(cpu.slice_us / 100) / 10} ms`);
  setText(head.children[3], `${perSecond(rate(cpu.switches, then?.switches))} switches`);
  const sums = new Map();
  cpu.slots.forEach((page, i) => {
    const slot = slots.children[i];
    slot.style.background = page ? colourOf(page) : "";
    slot.className = i === cpu.current ? "current" : "";
    slot.title = `Slice ${i}: ${page ? owner(page) : "free"}, ${duration(cpu.used[i])} used`;
    const sum = sums.get(page) || { slots: 0, used: 0 };
    sum.slots++;
    sum.used += cpu.used[i];
    sums.set(page, sum);
  });
  const list = [...sums].sort((a, b) => b[1].slots - a[1].slots);
  slots.setAttribute("aria-label", `Slices of CPU ${cpu.cpu}: ` +
    list.map(([page, s]) => `${page ? owner(page) : "free"} ${s.slots}`).join(", "));
  fillTable(details.querySelector("table"), [["Owner"], ["Slices"], ["Used"]],
    list.map(([page, s]) => [{ text: page ? owner(page) : "free", colour: page ? colourOf(page) : css("--empty") },
      s.slots, duration(s.used)]));
}

function drawCpus() {
  const list = $("cpus");
  while (list.children.length > shown.cpus.length) list.lastChild.remove();
  shown.cpus.forEach((cpu, i) => {
    if (!list.children[i]) list.append(element("div", "cpu"));
    drawCpu(list.children[i], cpu);
  });
}

function drawFlows() {
  const rows = shown.flows.map(flow => {
    const then = before?.flows.find(f => f.page === flow.page);
    return [{ text: flow.takes, colour: colourOf(flow.bound_by || flow.owner) }, flow.bound ? owner(flow.bound_by) : "nobody",
      owner(flow.owner), count(flow.filled), perSecond(rate(flow.filled, then?.filled)), bytes(flow.received),
      count(flow.sent), perSecond(rate(flow.sent, then?.sent)), bytes(flow.sent_bytes),
      count(flow.handled), count(flow.dropped + flow.dropped_bad), count(flow.refused)];
  });
  fillTable($("flows"), [["Takes"], ["Bound by", "text"], ["Owner", "text wide"], ["In"], ["In/s", "wide"],
    ["Bytes in", "wide"], ["Out"], ["Out/s", "wide"], ["Bytes out", "wide"], ["Handled", "wide"], ["Dropped", "wide"], ["Forged", "wide"]], rows);
}

function drawTrace() {
  const counters = [["interrupts", "Device interrupts"], ["timer", "Timer interrupts"], ["packets", "Frames received"],
    ["unclaimed", "Frames nobody wanted"], ["exceptions", "Exceptions"], ["transfers", "Control transfers"],
    ["cap_hits", "Capabilities found in the cache"], ["cap_misses", "Capabilities verified"],
    ["shootdowns", "TLB shootdowns"], ["overruns", "Slices exceeded"],
    ["put_off", "Times receiving was put off"], ["nonsense", "Network device's nonsense"], ["records", "Trace records"]];
  const columns = [["Counter"]];
  for (const t of shown.trace) columns.push([`CPU ${t.cpu}`], ["per second", "dim"]);
  fillTable($("trace"), columns, counters.map(([key, title]) => [title, ...cells(t => t[key])]));
  const calls = [...new Set(shown.trace.flatMap(t => Object.keys(t.calls)))].sort();
  columns[0] = ["Call"];
  fillTable($("calls"), columns, calls.map(name => [name, ...cells(t => t.calls[name] || 0)]));
}

// For each CPU what `pick` takes from its trace, and how fast that grows.
function cells(pick) {
  return shown.trace.flatMap((t, i) => {
    const then = before?.trace[i];
    return [count(pick(t)), perSecond(rate(pick(t), then && pick(then)))];
  });
}

// ---- asking, and saying how it went

function setState(kind, text) {
  const state = $("state");
  state.className = "state " + kind;
  setText(state, text);
  $("live").classList.toggle("stale", kind === "bad");
  document.title = (kind === "bad" ? "No answer! " : "") + "Targe: this machine, live";
}

function accept(answer) {
  const restarted = shown && answer.uptime_ms < shown.uptime_ms;
  before = restarted ? null : shown;
  shown = answer;
  lastAnswer = Date.now();
  names.clear();
  for (const env of [...answer.envs].sort((a, b) => (a.creator ? 1 : 0) - (b.creator ? 1 : 0) || a.page - b.page)) {
    names.set(env.page, env.name);
    colourOf(env.page);
  }
  for (const draw of [drawTiles, drawMemory, drawEnvs, drawShares, drawCpus, drawFlows, drawTrace]) draw();
  setState("good", "The machine answers");
}

async function ask() {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), PATIENCE);
  try {
    const response = await fetch("machine.json", { signal: giveUp.signal, cache: "no-store" });
    if (response.status === 503) return; // busy: it does answer
    if (!response.ok) throw new Error(`status ${response.status}`);
    accept(await response.json());
  } catch (error) {
    console.info("no answer:", error.message);
    const since = lastAnswer ? ` Last answer at ${new Date(lastAnswer).toLocaleTimeString()}.` : "";
    setState("bad", `The machine does not answer.${since}`);
  } finally {
    clearTimeout(timer);
  }
}

async function run() {
  for (;;) {
    const began = performance.now();
    if (!document.hidden) await ask();
    await new Promise(done => setTimeout(done, Math.max(100, PERIOD - (performance.now() - began))));
  }
}

map.listen();
shares.listen();
run();
