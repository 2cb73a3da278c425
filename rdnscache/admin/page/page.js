// The live page: asks its node every two seconds how the cluster is, and shows it.
// Names and records are hostile: whatever comes from the cache is set as text, never as HTML.

const EVERY = 2000;
const PATIENCE = 8000;
/** From the bottom of the chart to its top, the hits first: layer, what it is called, what it means. */
const LAYERS = [
  ["l1", "L1", "local cache"],
  ["flight", "flight", "a flight already up"],
  ["l2", "L2", "Redis"],
  ["follower", "follower", "the leader’s reply"],
  ["upstream", "upstream", "asked just now"],
  ["stale", "stale", "past its TTL"],
  ["failure", "failure", "nobody answered"],
  ["local", "local", "without the cache"],
];
const HITS = 4;

let self = "this node";
let token = ""; // of the admin; it lives and dies with this page

// ---- Elements ----

const $ = (id) => document.getElementById(id);

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** An element of a class; children that are texts stay texts. */
function make(tag, kind = "", ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, text = "") {
  const node = set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
  node.textContent = text;
  return node;
}

/** Give an element of a layer its colour. */
function tint(node, layer) {
  node.dataset.layer = layer;
  node.style.setProperty("--c", `var(--${layer})`);
  return node;
}

/** Set a text only where it changes, so that selections stay and nothing is read out twice. */
function say(node, text, tone = "") {
  if (node.textContent !== String(text)) node.textContent = text;
  if (tone || node.dataset.tone) node.dataset.tone = tone;
}

/**
 * Bring a parent's children, from the one after `skip` on, in line with items.
 * Each is kept by its key; `build(item)` makes its element and what updates it.
 */
function keep(parent, items, key, build, skip = 0) {
  const old = parent.kept ?? new Map();
  const focused = document.activeElement;
  parent.kept = new Map();
  for (const item of items) {
    const name = key(item);
    if (parent.kept.has(name)) continue;
    const [element, update] = old.get(name) ?? build(item);
    old.delete(name);
    const place = parent.children[skip + parent.kept.size];
    if (place !== element) parent.insertBefore(element, place ?? null);
    parent.kept.set(name, [element, update]);
    update?.(item);
  }
  for (const [element] of old.values()) element.remove();
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

// ---- Words and numbers ----

const sum = (values) => values.reduce((total, value) => total + value, 0);
const whole = (value) => Math.round(value).toLocaleString("en");
const rate = (value, tenthsBelow = 99.95) => (value && value < tenthsBelow ? value.toFixed(1) : whole(value));
const ms = (value) => (value && value < 0.1 ? `${whole(value * 1000)} µs` : value < 1000 ? `${rate(value, 10)} ms` : `${rate(value / 1000)} s`);
const count = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;
const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function share(value) {
  if (value > 0 && value < 0.001) return "<0.1%";
  if (value < 1 && value >= 0.9995) return ">99.9%";
  return `${(value * 100).toFixed(value % 1 ? 1 : 0)}%`;
}

function span(seconds) {
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([each]) => seconds >= 2 * each) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

// ---- Asking the node ----

async function ask(path, options = {}) {
  const headers = { "X-Rdnscache": "page", ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), headers, ...options }).catch(() => {
    throw new Error(`${self} does not answer`);
  });
  if (response.status === 401) token = "";
  const told = await response.json().catch(() => null);
  if (response.ok && told) return told;
  const problem = response.ok ? `${self} broke off its answer` : `${self} says ${response.status}`;
  throw Object.assign(new Error(told?.error ?? problem), { status: response.status });
}

const watch = { turn: 0, timer: 0, heard: 0 };

/** Look, show, and come again. Of several at once only the latest goes on. */
async function look() {
  const turn = ++watch.turn;
  clearTimeout(watch.timer);
  if (document.hidden) return;
  const told = await ask("api/cluster").catch((error) => error);
  if (turn !== watch.turn) return;
  watch.timer = setTimeout(look, EVERY);
  const lost = told instanceof Error;
  if (!lost) show(told);
  const since = watch.heard ? `; what you see is from ${time(watch.heard)}` : "";
  say($("live-text"), lost ? `${told.message}${since}. Trying again.` : "live");
  $("live").dataset.state = lost ? "lost" : "live";
  document.body.classList.toggle("lost", lost);
  document.title = `${lost ? "(no answer) " : ""}${self} | rdnscache`;
}

function show(told) {
  watch.heard = told.time;
  self = told.node;
  canFlush = told.can_flush;
  readersLookUp = told.readers_look_up;
  needsToken = canFlush;
  offerKey();
  say($("self"), self);
  showNotice(told.redis, told.more);
  showFigures(told.nodes, told.redis !== "ok");
  spans.minutes = told.history;
  showSpan();
  showTraffic(told);
  Object.assign(nodes, { told: told.nodes, alone: told.redis !== "ok" });
  showNodes();
  followOrder(told.nodes);
  showCaches(told);
  showBlocking(told.nodes, told.redis);
  showUpstreams(told.nodes);
  showHot(told.hot, told.redis);
  showSlow(told.slow);
  showWho(told);
}

/** Which lists are in force where; whether blocking is paused. Without Redis there is nothing to order. */
function showBlocking(nodes, redis) {
  const told = nodes.filter((node) => node.present && node.policy.lists);
  const paused = told.filter((node) => node.policy.paused).length;
  const lists = group(told.flatMap((node) => Object.entries(node.policy.lists)), 0);
  $("blocking").hidden = !lists.length && !paused;
  say($("blocking-state"), paused ? `Paused on ${paused} of ${count(told.length, "node")}.` : "Names of these lists are blocked.", paused ? "bad" : "");
  $("blocking-orders").hidden = !canFlush || redis !== "ok";
  $("lists").replaceChildren(...lists.flatMap(([word, each]) => {
    const versions = group(each, 1).map(([version, held]) => `version ${version} on ${count(held.length, "node")}`);
    return [make("dt", "dns", word), make("dd", "", versions.join(", "))];
  }));
}

function showNotice(redis, more) {
  const none = redis === "there is none";
  const why = none
    ? "works without Redis: only this node is shown, and names cannot be looked up."
    : `cannot use Redis (${redis.replace(/\.$/, "")}). Only this node is shown; it goes on answering.`;
  say($("notice"), redis === "ok" ? more : `${self} ${why}`, none ? "" : "bad");
  for (const each of $("search").elements) each.disabled = none;
}

// ---- The last minutes, or the last hour ----

const HOUR_EVERY = 20000;
const spans = { minutes: null, hour: null, shown: "minutes", asked: 0 };
const WORDS = { minutes: "five minutes", hour: "hour" };

/** Show the time span that was chosen; the hour is asked for when it is shown, and not at each look. */
function showSpan() {
  for (const each of Object.keys(WORDS)) $(each).ariaPressed = spans.shown === each;
  say($("quiet"), `No queries in the last ${WORDS[spans.shown]}.`);
  chart.history = spans[spans.shown] ?? chart.history;
  drawChart();
  if (spans.shown === "hour" && performance.now() > spans.asked + HOUR_EVERY) lookBack();
}

async function lookBack() {
  spans.asked = performance.now();
  const told = await ask("api/hour").catch(() => null);
  if (!told) return;
  const nothing = Array.from({ length: 60 }, () => 0);
  const layers = Object.fromEntries(LAYERS.map(([layer]) => [layer, told.answers[layer] ?? nothing]));
  spans.hour = { step: told.step, end: told.end, layers, ms: told.ms };
  showSpan();
}

function chooseSpan(name) {
  Object.assign(spans, { shown: name, asked: -HOUR_EVERY });
  point(null);
  showSpan();
}

// ---- RCODEs, types, times ----

/** A list of names with numbers and bars, the longest of which is the largest. */
function barList(list, rows, kind, text, title = () => "") {
  const most = Math.max(...rows.map(([, value]) => value), 0) || 1;
  keep(list, rows, ([name]) => name, ([name]) => {
    const [value, fill] = [make("span"), make("i")];
    const row = make("li", "", make("div", "row", make("span", kind, name), value), make("div", "bar", fill));
    return [row, ([, number]) => {
      say(value, text(number));
      row.title = title(number);
      fill.style.width = `${(100 * number) / most}%`;
    }];
  });
}

const PERCENTILES = { p50: "half of them within", p90: "90% within", p99: "99% within", "p99.9": "99.9% within" };

function showTraffic(told) {
  const replies = Object.entries(told.rcodes).filter(([, each]) => each > 0);
  barList($("rcodes"), replies.length ? replies : [["none", 0]], "dns", (each) => (each ? `${rate(each)}/s` : ""));
  barList($("types"), Object.entries(told.types), "dns", share);
  const { all, missed, seconds } = told.latency;
  say($("latency-span"), `Of ${count(all.answers, "answer")} of the last ${span(seconds)}; of those who share a flight, the first alone.`);
  keep($("latency").tBodies[0], Object.entries(PERCENTILES), ([name]) => name, ([name, words]) => {
    const cells = [make("td"), make("td")];
    const row = make("tr", "", set(make("th", "", words), { scope: "row" }), ...cells);
    row.update = (values) => values.forEach((each, place) => say(cells[place], each[name] === undefined ? "–" : ms(each[name])));
    return [row];
  });
  for (const row of $("latency").tBodies[0].rows) row.update([all, missed]);
}

// ---- Caches ----

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function octets(value) {
  const size = value < 1024 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), UNITS.length - 1);
  return `${size ? (value / 1024 ** size).toFixed(1) : value} ${UNITS[size]}`;
}

function showCaches(told) {
  const present = told.nodes.filter((node) => node.present);
  const l1 = (name) => sum(present.map((node) => node.l1[name] ?? 0));
  const full = (value, room) => (room ? ` of ${octets(room)} (${share(value / room)})` : ", no limit");
  const rows = [["L1", [
    `${count(l1("entries"), "entry", "entries")}, room for ${whole(l1("room_entries"))}`,
    octets(l1("bytes")) + full(l1("bytes"), l1("room_bytes")),
    count(l1("evictions"), "eviction"),
  ]]];
  const redis = told.redis_memory;
  if (told.redis !== "ok") rows.push(["L2", [told.redis === "there is none" ? "none" : "away"]]);
  else if (redis.problem) rows.push(["L2", [redis.problem]]);
  else {
    const evictions = `${count(redis.evictions, "eviction")} (${redis.policy || "no policy told"})`;
    rows.push(["L2", [`${count(redis.keys, "key")}, claims and the like included`, octets(redis.bytes) + full(redis.bytes, redis.room_bytes), evictions]]);
  }
  keep($("caches"), rows, ([name]) => name, ([name]) => {
    const facts = make("dd");
    return [make("div", "", make("dt", "", name), facts), ([, texts]) =>
      keep(facts, texts.map((text, place) => [place, text]), ([place]) => place, () => {
        const fact = make("span");
        return [fact, ([, text]) => say(fact, text)];
      })];
  });
  $("flush-orders").hidden = !canFlush || told.redis !== "ok";
}

// ---- The figures ----

const hits = (node) => sum(LAYERS.slice(0, HITS).map(([layer]) => node.shares[layer] ?? 0));

/** What is only of this node is said to be so. */
function showFigures(nodes, alone) {
  const present = nodes.filter((node) => node.present);
  const absent = nodes.filter((node) => !node.present).map((node) => node.node).join(", ");
  const total = (name) => sum(present.map((node) => node[name]));
  const qps = total("qps");
  const ratio = sum(present.map((node) => hits(node) * node.qps)) / qps;
  const upstreams = new Set(present.flatMap((node) => node.upstreams.map((each) => each.address))).size;
  const figures = [
    ["Queries/s", rate(qps), `to ${count(total("workers_present"), "worker")}`],
    ["Hit ratio", qps ? share(ratio) : "–", "L1, flight, L2, follower"],
    ["Upstream queries/s", rate(total("upstream_qps")), `to ${count(upstreams, "upstream")}`],
    ["Queries saved/s", rate(total("saved_qps")), "another node asked upstream"],
    ["Nodes present", `${present.length}/${nodes.length}`, absent ? `not heard of: ${absent}` : "all there", absent],
  ].map(([name, value, note, bad], place) =>
    alone ? (place < 4 ? [name, value, "this node only"] : [name, "–", "others cannot be seen"]) : [name, value, note, bad]);
  keep($("figures"), figures, ([name]) => name, ([name]) => {
    const [value, note] = [make("dd"), make("dd")];
    const element = make("div", "", make("dt", "", name), value, note);
    return [element, ([, number, words, bad]) => {
      say(value, number);
      say(note, words);
      element.classList.toggle("bad", Boolean(bad));
    }];
  });
}

// ---- The chart: answers a second by layer, stacked, over the last minutes ----

const EDGE = { left: 46, right: 6, top: 24, bottom: 24 };
const chart = {
  history: null,
  without: new Set(), // layers left out
  grid: draw("g"),
  areas: LAYERS.map(([layer]) => tint(draw("path"), layer)),
  cross: draw("line", { class: "cross", y1: 0 }),
  label: draw("text", { class: "at", y: 13 }),
  seam: LAYERS.map(([layer]) => tint(make("i"), layer)),
  key: LAYERS.map((layer) => keyLine(...layer)),
};
/** Set by drawChart: the place of the last step, the size, pixels for one answer a second. */
let [last, width, base, scale] = [0, 0, 0, 0];
/** The moment pointed at; null is now. */
let pointed = null;

/** A line of the key: where its value and its share of all answers go. */
function keyLine(layer, name, meaning) {
  const [value, part] = [make("span", "n"), make("span", "n")];
  const label = make("span", "label", name, make("small", "", meaning));
  const button = tint(make("button", "", make("span", "swatch"), label, value, part), layer);
  button.ariaPressed = true;
  button.onclick = () => {
    if (!chart.without.delete(layer)) chart.without.add(layer);
    button.ariaPressed = !chart.without.has(layer);
    drawChart();
  };
  $("legend").append(make("li", "", button));
  return [value, part];
}

const valuesAt = (index) => LAYERS.map(([layer]) => chart.history.layers[layer][index]);
const momentOf = (index) => chart.history.end - (last - index) * chart.history.step;
const xOf = (index) => EDGE.left + (index / last) * (width - EDGE.left - EDGE.right);

function drawChart() {
  if (!chart.history) return;
  last = chart.history.layers.l1.length - 1;
  width = Math.max($("plot").clientWidth, 200);
  const height = width < 560 ? 230 : 340;
  base = height - EDGE.bottom;
  set($("chart"), { viewBox: `0 0 ${width} ${height}`, height });
  const columns = Array.from({ length: last + 1 }, (_, index) =>
    valuesAt(index).map((value, place) => (chart.without.has(LAYERS[place][0]) ? 0 : value)));
  const most = Math.max(...columns.map(sum));
  const step = niceStep(most / 5 || 1);
  scale = (base - EDGE.top) / (Math.max(Math.ceil(most / step), 1) * step);
  drawGrid(step);
  drawAreas(columns);
  $("quiet").hidden = most > 0;
  valuesAt(last).forEach((value, place) => { chart.seam[place].style.flexGrow = value; });
  point(pointed);
}

function drawGrid(step) {
  const marks = [];
  for (let value = 0; value * scale <= base - EDGE.top + 1; value += step) {
    const y = base - value * scale;
    marks.push(draw("line", { x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y }));
    const label = value < 10000 ? value.toLocaleString("en") : `${value / 1000}k`;
    marks.push(draw("text", { x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, label));
  }
  const every = (width < 560 ? 2 : 1) * (chart.history.step < 60 ? 60 : 600);
  for (let at = Math.ceil(momentOf(0) / every) * every; at <= chart.history.end; at += every) {
    const x = xOf((at - momentOf(0)) / chart.history.step);
    const label = x < width - 24 ? time(at).slice(0, 5) : "";
    marks.push(draw("text", { x, y: base + 18, "text-anchor": "middle" }, label));
  }
  chart.grid.replaceChildren(...marks);
}

/** A layer that answered at all is more than a pixel high: rare failures must be seen beside many hits. */
function drawAreas(columns) {
  const line = (heights) => heights.map((y, index) => `${xOf(index).toFixed(1)},${y.toFixed(1)}`);
  const thick = (value) => (value > 0 ? Math.max(value * scale, 1.2) : 0);
  let floor = columns.map(() => base);
  chart.areas.forEach((area, place) => {
    const roof = floor.map((y, index) => y - thick(columns[index][place]));
    set(area, { d: `M${line(roof).join("L")}L${line(floor).reverse().join("L")}Z` });
    floor = roof;
  });
}

/** Show the values of one moment, or with null those of now. */
function point(index) {
  if (!chart.history) return;
  pointed = index;
  const at = index ?? last;
  const values = valuesAt(at);
  const total = sum(values);
  const latest = spans.shown === "hour" ? "last minute" : "now";
  const when = index === null ? latest : time(momentOf(at));
  say($("when"), when);
  say($("total"), `${rate(total)} answers/s`);
  chart.key.forEach(([value, part], place) => {
    say(value, rate(values[place]));
    say(part, share(total && values[place] / total));
  });
  const x = xOf(at);
  const left = x > width / 2;
  set(chart.cross, { x1: x, x2: x, y2: base, visibility: index === null ? "hidden" : "visible" });
  set(chart.label, { x: left ? x - 8 : x + 8, "text-anchor": left ? "end" : "start" });
  say(chart.label, index === null ? "" : when);
  const times = chart.history.ms ?? {};
  say($("moment-times"), times.p50 ? `In this minute half of the answers took up to ${ms(times.p50[at])}, 99% up to ${ms(times.p99[at])}.` : "");
  const spoken = LAYERS.map(([, name], place) => `${name} ${rate(values[place])}`).join(", ");
  const ariaValueText = `${when}: ${rate(total)} answers a second; ${spoken}`;
  Object.assign($("at"), { max: last, value: at, ariaValueText });
}

function follow(event) {
  const place = (event.offsetX - EDGE.left) / (width - EDGE.left - EDGE.right);
  point(Math.round(Math.min(Math.max(place, 0), 1) * last));
}

function niceStep(least) {
  const size = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].find((factor) => factor * size >= least) * size;
}

// ---- Nodes and upstreams ----

const COLUMNS = {
  Workers: (node) => `${node.workers_present}/${node.workers}`,
  Up: (node) => span(node.uptime),
  "Queries/s": (node) => rate(node.qps),
  "Hit ratio": (node) => (node.qps ? share(hits(node)) : "–"),
  L1: (node) => octets(node.l1.bytes ?? 0),
  Redis: redisOf,
  Gaps: gapsOf,
  Version: (node) => node.version,
};
const MARKS = { well: "●", look: "▲", sick: "■" };

function redisOf(node) {
  if (node.redis_state === "none") return "none";
  if (!node.attached) return "away";
  const some = node.attached < node.workers_present ? `, ${node.attached} of ${node.workers_present}` : "";
  return ms(node.redis_ms) + some;
}

function gapsOf(node) {
  const gaps = [
    node.detachments && `${count(node.detachments, "link")} lost`,
    node.events_missed && `${count(node.events_missed, "event")} late`,
    node.wakes_lost && `${count(node.wakes_lost, "wake-up")} lost`,
  ];
  return gaps.filter(Boolean).join(", ") || "none";
}

/** How a node is, and in words what a person should know. */
function condition(node) {
  if (!node.present) return ["sick", [`not heard of for ${span(node.silent)}`]];
  const found = [...node.remarks];
  const away = node.redis_state !== "none" && node.attached < node.workers_present;
  if (away) found.unshift("Redis is away: answers come from L1 and the upstreams");
  for (const each of node.upstreams) if (each.rests || each.resting) found.push(`upstream ${each.address} rests`);
  const sick = away || node.workers_present < node.workers;
  return [sick ? "sick" : found.length ? "look" : "well", found];
}

/** The order of texts with numbers in them: node-4 before node-10. */
const naturally = (one, other) => one.localeCompare(other, "en", { numeric: true });

/** What a node is sorted by: numbers the largest first, names from A to Z. */
const ORDERS = {
  Node: (node) => node.node,
  Condition: (node) => Object.keys(MARKS).indexOf(condition(node)[0]),
  Workers: (node) => node.workers_present,
  Up: (node) => node.uptime,
  "Queries/s": (node) => node.qps,
  "Hit ratio": hits,
  L1: (node) => node.l1.bytes ?? 0,
  Redis: (node) => node.redis_ms,
  Gaps: (node) => node.detachments + node.events_missed + node.wakes_lost,
  Version: (node) => node.version,
};
const nodes = { told: [], alone: false, by: "Node", turned: false };
/** With fewer nodes there is nothing to look for. */
const MANY = 5;

function showNodes() {
  const { told, by, turned } = nodes;
  const words = $("filter").value.toLowerCase().split(/\s+/);
  const text = (node) => `${node.node} ${node.version} ${condition(node)[1].join(" ")}`.toLowerCase();
  const shown = told.filter((node) => words.every((word) => text(node).includes(word)));
  shown.sort((one, other) => {
    const [a, b] = [one, other].map(ORDERS[by]);
    const first = typeof a === "string" ? naturally(a, b) : b - a;
    return turned ? -first : first;
  });
  keep($("nodes"), shown, (node) => node.node, nodeBody, 1);
  const odd = told.filter((node) => condition(node)[0] !== "well").map((node) => node.node);
  const all = told.length ? "All well." : "No node has told of itself yet.";
  const part = shown.length < told.length ? ` ${shown.length} of ${told.length} are shown.` : "";
  say($("nodes-state"), (odd.length ? `Look at ${odd.slice(0, 8).join(", ")}${odd.length > 8 ? ` and ${odd.length - 8} more` : ""}.` : all) + part);
  $("nodes-tools").hidden = told.length < MANY && !$("filter").value;
  const ascending = ["Node", "Version"].includes(by) !== turned;
  for (const head of $("heads").cells) {
    if (head.textContent === by) head.ariaSort = ascending ? "ascending" : "descending";
    else head.removeAttribute("aria-sort");
  }
  $("sort").value = by;
  offerNodes();
}

function sortBy(name) {
  nodes.turned = nodes.by === name && !nodes.turned;
  nodes.by = name;
  showNodes();
}

/** The nodes that something can be ordered of. */
function offerNodes() {
  const all = nodes.alone ? [] : [""]; // who cannot reach Redis can tell nobody else
  const [which, names] = [$("which"), [...all, ...nodes.told.map((node) => node.node).sort(naturally)]];
  if (which.options.length !== names.length || names.some((name, place) => which.options[place].value !== name)) {
    const chosen = which.value;
    which.replaceChildren(...names.map((name) => Object.assign(make("option", "", name || "all nodes"), { value: name })));
    which.value = names.includes(chosen) ? chosen : names[0];
  }
  const chosen = nodes.told.find((node) => node.node === which.value);
  for (const each of ["reload", "restart"]) $(each).hidden = !canFlush || (chosen && !chosen.present);
  $("forget").hidden = !canFlush || !chosen || chosen.present;
}

/** A node's row, and below it what there is to remark. */
function nodeBody({ node: name }) {
  const mark = set(make("span", "mark"), { role: "img" });
  const cells = Object.keys(COLUMNS).map((label) => set(make("td"), { "data-label": label }));
  const remarks = set(make("td"), { colspan: cells.length + 1 });
  const said = make("tr", "said", remarks);
  const body = make("tbody", "", make("tr", "", make("th", "", mark, name), ...cells), said);
  return [body, (node) => {
    const [how, found] = condition(node);
    body.className = how;
    mark.ariaLabel = how;
    say(mark, MARKS[how]);
    Object.values(COLUMNS).forEach((value, place) => say(cells[place], node.present ? value(node) : "–"));
    say(remarks, found.join("; "));
    said.hidden = !found.length;
  }];
}

/** Items by a field of theirs, in its order. */
const group = (items, name) => Object.entries(Object.groupBy(items, (item) => item[name])).sort(([one], [other]) => naturally(one, other));

function showUpstreams(nodes) {
  const views = nodes.flatMap((node) => node.upstreams.map((each) => ({ node: node.node, ...each })));
  keep($("upstreams"), group(views, "address"), ([address]) => address, ([address]) => {
    const list = make("dd");
    const element = make("div", "", make("dt", "dns", address), list);
    return [element, ([, seen]) => keep(list, withoutMany(seen), (view) => view.node, upstreamView)];
  });
  $("no-upstreams").hidden = views.length > 0;
}

/** Of many nodes that an upstream has told nothing yet, how many there are. */
function withoutMany(views) {
  const silent = views.filter((view) => !view.ms && !view.rests && !view.resting);
  if (silent.length < 4) return views;
  return [...views.filter((view) => !silent.includes(view)), { node: `${silent.length} nodes` }];
}

function upstreamView() {
  const element = make("span");
  return [element, (view) => {
    const rests = view.rests ? `rests ${span(view.rests)}` : view.resting && "rests until it answers";
    say(element, `${view.node} ${rests || (view.ms ? ms(view.ms) : "no answer yet")}`);
    element.className = rests ? "rests" : "";
  }];
}

// ---- Lists of names ----

/** A question that can be looked up, with a value at its end. */
function nameButton(name, type, value) {
  const button = make("button", "name", make("span", "dns", `${name} ${type}`), value);
  button.onclick = () => find(name, "");
  return button;
}

/** A list holds still under the mouse: nobody shall hit a name that has just moved there. */
const pointedAt = (list) => window.matchMedia("(hover: hover)").matches && list.matches(":hover");

function showHot(hot, redis) {
  say($("no-hot"), redis === "ok" ? "No name has been asked for yet." : "They are counted in Redis.");
  $("no-hot").hidden = hot.length > 0;
  if (pointedAt($("hot"))) return;
  const shown = hot.slice(0, 15).map((each) => ({ ...each, part: each.qps / (hot[0].qps || 1) }));
  keep($("hot"), shown, (each) => each.question, ({ question }) => {
    const [value, fill] = [make("span"), make("i")];
    const [name, ...type] = question.split(" ");
    return [make("li", "", nameButton(name, type.join(" "), value), make("div", "bar", fill)), ({ qps, part }) => {
      say(value, qps < 0.05 ? "<0.1" : rate(qps));
      fill.style.width = `${100 * part}%`;
    }];
  });
}

function showSlow(slow) {
  $("no-slow").hidden = slow.length > 0;
  if (pointedAt($("slow"))) return;
  keep($("slow"), slow.slice(0, 12), JSON.stringify, (each) => {
    const button = nameButton(String(each.name), String(each.type), make("span", "", ms(Number(each.ms))));
    return [make("li", "", button, make("small", "", `${time(Number(each.time))}, ${each.layer}, ${each.node}`))];
  });
}

// ---- Clients, sampled queries, options: with the token, where there is one ----

let needsToken = false;
const WHO_EVERY = 10000;
const who = { asked: -WHO_EVERY, sifted: false };

/** Called at each look: clients are asked for less often, sampled queries when somebody searches. */
function showWho(told) {
  const locked = needsToken && !token;
  $("unlock").hidden = !locked;
  $("who").hidden = locked;
  if (locked) say($("who-state"), "Who asks, and single queries, are shown to who has the admin token.");
  if (locked || performance.now() < who.asked + WHO_EVERY) return;
  who.asked = performance.now();
  showClients(told.shows_clients);
  const kept = told.one_of === 1 ? "each query" : `one of ${whole(told.one_of)} queries`;
  const none = `${self} keeps none: --admin-sample N has it keep one of N.`;
  if (!who.sifted) say($("sample-state"), told.one_of ? `${self} keeps ${kept}, the last 1,000 of each worker.` : none);
  $("sift").hidden = !told.one_of;
}

async function showClients(shown) {
  const told = await ask("api/clients").catch((error) => error);
  if (told instanceof Error) return say($("who-state"), `${told.message}.`, "bad");
  const what = { no: "Clients are not told (--admin-clients no).", networks: "Networks of clients (/24, /56)", addresses: "Addresses of clients" }[shown];
  const time = shown === "no" ? "" : `, queries of the last ${span(told.seconds)}, counted from a sample.`;
  say($("who-state"), what + time);
  for (const kind of ["asked", "denied", "limited"]) {
    const rows = told[kind].map((each) => [each.client, each.queries]);
    const rateOf = (each) => `${rate(each / Math.max(told.seconds, 1))} a second`;
    barList($(kind), rows.length ? rows : [["none", 0]], rows.length ? "dns" : "", (each) => (rows.length ? whole(each) : ""), rateOf);
  }
}

async function sift() {
  const told = await ask(`api/queries?${new URLSearchParams({ words: $("words").value })}`).catch((error) => error);
  who.sifted = true;
  if (told instanceof Error) return say($("sample-state"), `${told.message}.`, "bad");
  const shown = `${whole(told.queries.length)} of ${count(told.searched, "sampled query", "sampled queries")} of ${told.node}, the newest first.`;
  say($("sample-state"), shown);
  $("sample").replaceChildren(...told.queries.map((each) => make("li", "",
    nameButton(each.name, each.type, make("span", "", ms(each.ms))),
    make("small", "", [time(each.time), each.rcode, each.layer, each.transport, each.client].filter(Boolean).join(", ")))));
}

async function openConfig() {
  const node = $("which").value || self;
  say($("config-title"), `Options of ${node}`);
  say($("config-state"), "asking …");
  $("config-options").replaceChildren();
  $("config").showModal();
  const told = await ask(`api/config?${new URLSearchParams({ node })}`).catch((error) => error);
  if (told instanceof Error) return say($("config-state"), `${told.message}.`, "bad");
  config = told.options;
  showConfig();
}

let config = [];

function showConfig() {
  const [word, only] = [$("config-filter").value.toLowerCase(), $("config-set").checked];
  const shown = config.filter((each) => (!only || !each.default) && each.option.includes(word));
  say($("config-state"), `${shown.length} of ${count(config.length, "option")}; secrets are masked.`);
  $("config-options").replaceChildren(...shown.map((each) => {
    const value = Array.isArray(each.value) ? each.value.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", ") : String(each.value ?? "");
    return make("div", each.default ? "" : "set", make("dt", "dns", each.option), make("dd", "dns", value || "none"));
  }));
}

// ---- Looking a name up ----

let canFlush = false;
let readersLookUp = false;
let lookups = 0;

async function find(name, type) {
  $("name").value = name;
  $("type").value = type;
  say($("proof"), "");
  await lookUp();
  $("found").focus({ preventScroll: true });
  $("found").scrollIntoView({ block: "nearest" });
}

/** Show what is held of the name in the box. */
async function lookUp() {
  const [name, type, turn] = [$("name").value.trim(), $("type").value.trim().toUpperCase(), ++lookups];
  const what = `${name} ${type}`.trim();
  $("entries").ariaBusy = true;
  token ||= $("key").value;
  $("key").value = "";
  const told = await ask(`api/lookup?${new URLSearchParams({ name, type })}`).catch((error) => error);
  if (turn !== lookups) return;
  const lost = told instanceof Error;
  const entries = told.entries ?? [];
  const found = entries.length ? count(entries.length, "entry", "entries") : "Nothing is cached";
  say($("found"), lost ? `${told.message}.` : `${found} of ${what}, at ${time(Date.now() / 1000)}.`, lost ? "bad" : "");
  offerKey();
  $("entries").ariaBusy = false;
  $("entries").replaceChildren(...entries.map(entryView));
  $("flush").hidden = lost || !canFlush;
  offerFlush(name, type, what);
}

/** Where flushing is on, looking up needs the token too, unless there is one for readers: they have shown it. */
const offerKey = () => { $("key-field").hidden = !canFlush || readersLookUp || Boolean(token); };

function offerFlush(name, type, what) {
  const labels = name.match(/(?:\\.|[^.\\])+/gs) ?? [];
  const zones = labels.map((_, place) => `${labels.slice(place).join(".")}.`);
  const zone = $("zone");
  zone.replaceChildren(...zones.map((each) => make("option", "", each)));
  zone.selectedIndex = zones.length > 2 ? 1 : 0;
  say($("flush-name"), `Flush ${what}`);
  $("flush-name").onclick = () => openFlush(type ? { name, type } : { name }, what);
  $("flush-zone").onclick = () => openFlush({ zone: zone.value }, `${zone.value} and everything below it`);
}

function entryView(entry) {
  const left = entry.state === "fresh" ? `, ${count(entry.ttl_left, "second")} left` : "";
  const facts = {
    State: [make("span", entry.state, entry.state + left)],
    Age: [count(entry.age, "second")],
    Upstream: [entry.source],
    Node: [entry.node + (entry.key ? `, stored ${entry.stored}` : "")],
    Records: entry.answer.map((record) => make("div", "dns", record)),
    "In L1": group(entry.l1, "node").map(placeView),
  };
  const list = make("dl");
  for (const [name, values] of Object.entries(facts)) {
    list.append(make("dt", "", name), make("dd", "", ...(values.length ? values : ["none"])));
  }
  const fill = make("i");
  fill.style.width = `${(100 * entry.ttl_left) / Math.max(entry.ttl_left + entry.age, 1)}%`;
  const head = make("h3", "", make("span", "dns", entry.question), make("span", "", entry.rcode));
  return make("article", "", head, make("div", "bar", fill), list);
}

/** The workers of a node that hold it, and for how long. */
function placeView([node, held]) {
  const left = (each) => (each.state === "fresh" ? `${whole(each.ttl_left)} s` : each.state);
  held.sort((one, other) => one.worker - other.worker);
  return make("div", "", `${node}: ${held.map((each) => `worker ${each.worker} (${left(each)})`).join(", ")}`);
}

// ---- Orders: flushing it, pausing ----

/** What is asked of the server, and what is done with its answer. */
let order = {};

function openOrder(title, text, button, asked) {
  order = asked;
  say($("ask-title"), title);
  say($("ask-text"), text);
  say($("go"), button);
  $("ask").showModal();
  askOrder("", "keep");
}

function openFlush(what, words, done = flushed) {
  const text = "Every node drops it from L1, and Redis forgets it. The next query for it goes upstream.";
  openOrder(`Flush ${words}?`, text, "Flush", { path: "api/flush", body: what, done });
}

function askOrder(problem, focus) {
  say($("ask-error"), problem);
  $("token").value = "";
  $("token").required = !token;
  $("token-field").hidden = Boolean(token);
  $("go").disabled = false;
  $(token ? focus : "token").focus();
}

async function sendOrder() {
  token ||= $("token").value;
  $("go").disabled = true;
  try {
    const proof = await ask(order.path, { method: "POST", body: JSON.stringify(order.body) });
    $("ask").close();
    order.done(proof);
  } catch (error) {
    askOrder(`${error.message}.`, "go");
  }
}

const unproved = (proof) => (Object.keys(proof.missing).length ? "bad" : "");

function flushed(proof) {
  const dropped = `${count(proof.entries, "entry", "entries")} in Redis, ${whole(proof.local_entries)} in local caches`;
  say($("proof"), proofText(`Flushed ${proof.flushed}: ${dropped}`, proof), unproved(proof));
  lookUp();
}

function openPause() {
  const seconds = $("pause-for").value;
  const words = $("pause-for").selectedOptions[0].text;
  openOrder(`Pause blocking ${words}?`, "No node blocks a name meanwhile.", "Pause", {
    path: "api/blocking", body: { pause: seconds ? Number(seconds) : true }, done: blockingChanged,
  });
}

function openResume() {
  openOrder("Block again?", "Every node blocks what is in its lists.", "Resume", {
    path: "api/blocking", body: { pause: 0 }, done: blockingChanged,
  });
}

function blockingChanged(proof) {
  say($("blocking-proof"), proofText(proof.done, proof), unproved(proof));
  look();
}

function proofText(done, proof) {
  const [times, missing] = [Object.values(proof.confirmed_ms), Object.entries(proof.missing)];
  const nodes = `${times.length}/${count(times.length + missing.length, "node")}`;
  const slowest = times.length ? `, ${whole(Math.max(...times))} ms` : "";
  const said = `${done}; confirmed by ${nodes}${slowest}.`;
  return [said, ...missing.map(([node, why]) => `${node} has not confirmed: ${why}.`)].join(" ");
}

/** An order that nodes have yet to say something about. */
let awaited = null;
const ORDER_PATIENCE = 60000;

function openNodeOrder(what, text) {
  const node = $("which").value;
  const words = `${what[0].toUpperCase()}${what.slice(1)}`;
  openOrder(`${words} ${node || "all nodes"}?`, text, words, { path: `api/${what}`, body: node ? { node } : {}, done: (told) => {
    if (what === "forget") {
      say($("order-proof"), `${told.forgotten} is not expected any more.`);
      look();
    } else {
      awaited = { ...told, until: performance.now() + ORDER_PATIENCE };
      followOrder(nodes.told);
    }
  } });
}

/** Nodes tell with the next looks how it went. */
function followOrder(told) {
  if (!awaited) return;
  const answers = awaited.nodes.map((name) => {
    const order = told.find((node) => node.node === name)?.order ?? {};
    return [name, order.events?.includes(awaited.event) ? order : null];
  });
  const refused = answers.filter(([, order]) => order?.refused).map(([name, order]) => `${name} has refused: ${order.refused}`);
  const open = answers.filter(([, order]) => !order).map(([name]) => name);
  const late = performance.now() > awaited.until;
  const done = answers.length - refused.length - open.length;
  const rest = open.length ? [late ? `${open.join(", ")} did not say how it went.` : `Waiting for ${open.join(", ")} …`] : [];
  const said = [`${awaited.ordered} done by ${done}/${count(answers.length, "node")}.`, ...refused, ...rest].join(" ");
  say($("order-proof"), said[0].toUpperCase() + said.slice(1), refused.length || (late && open.length) ? "bad" : "");
  if (!open.length || late) awaited = null;
}

function flushMany() {
  const rcode = $("rcode").value;
  const done = (proof) => {
    const rest = proof.left_to_nodes ? " (nodes delete the rest)" : "";
    const inRedis = `${count(proof.entries, "entry", "entries")} in Redis${rest}`;
    const dropped = `${inRedis}, ${whole(proof.local_entries)} in local caches`;
    say($("flush-proof"), proofText(`Flushed ${proof.flushed}: ${dropped}`, proof), unproved(proof));
  };
  openFlush(rcode ? { rcode } : { all: true }, rcode ? `all ${rcode} answers` : "everything", done);
}

// ---- Begin ----

$("chart").append(chart.grid, ...chart.areas, chart.cross, chart.label);
$("seam").append(...chart.seam);
$("chart").onpointermove = $("chart").onpointerdown = follow;
$("chart").onpointerleave = $("at").onblur = () => point(null);
$("at").oninput = () => point(Number($("at").value));
new ResizeObserver(drawChart).observe($("plot"));
$("search").onsubmit = (event) => {
  event.preventDefault();
  find($("name").value, $("type").value);
};
$("order").onsubmit = (event) => {
  event.preventDefault();
  sendOrder();
};
$("keep").onclick = () => $("ask").close();
$("pause").onclick = openPause;
$("resume").onclick = openResume;
for (const each of Object.keys(WORDS)) $(each).onclick = () => chooseSpan(each);
for (const name of ["Node", ...Object.keys(COLUMNS)]) {
  const button = Object.assign(make("button", "", name), { type: "button", onclick: () => sortBy(name) });
  $("heads").append(set(make("th", "", button), { scope: "col" }));
}
$("sort").append(...Object.keys(ORDERS).map((name) => make("option", "", name)));
$("sort").onchange = () => sortBy($("sort").value);
$("filter").oninput = showNodes;
$("which").onchange = offerNodes;
$("show-config").onclick = openConfig;
$("config-filter").oninput = $("config-set").onchange = showConfig;
$("config-close").onclick = () => $("config").close();
$("reload").onclick = () => openNodeOrder("reload", "The configuration is read again; workers are succeeded one by one, without a lost query.");
$("restart").onclick = () => openNodeOrder("restart", "The node executes its program again on the sockets it has, without a lost query.");
$("forget").onclick = () => openNodeOrder("forget", "It ended without a goodbye and will not come back: no flush waits for it any more.");
$("flush-rcode").onclick = flushMany;
$("unlock").onsubmit = (event) => {
  event.preventDefault();
  token = $("unlock-key").value;
  $("unlock-key").value = "";
  who.asked = -WHO_EVERY;
  look();
};
$("sift").onsubmit = (event) => {
  event.preventDefault();
  sift();
};
document.addEventListener("visibilitychange", look);
look();
