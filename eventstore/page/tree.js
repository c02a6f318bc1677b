// Show thousands of images as a tree, of which only the rows in sight are in the document.
//
// The element with the role `tree` keeps the focus and names the row that the keys are at; each row
// says its level, whether it is open, and which of how many it is, for those who do not see it.

const ROW_HEIGHT = 30;
const SPARE_ROWS = 8;
const INDENT = 18;
const LEVELS_SHOWN = 12;
const NAMES_SHOWN = 8;

/** Return a new element with a class and a text, both perhaps empty. */
function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className !== "") made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

class Tree {
  /** Show rows in `root`; `choose` is called with the number of the image that is chosen. */
  constructor(root, rows, choose) {
    this.root = root;
    this.inner = rows;
    this.choose = choose;
    this.rows = [];
    this.closed = new Set();
    this.at = -1;
    this.chosen = -1;
    this.drawn = "";
    root.addEventListener("scroll", () => this.draw(), { passive: true });
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  /** Show a state of a history: as a tree, the heads alone, or all as a list; perhaps some only. */
  show(history, state, mode, isWanted) {
    this.history = history;
    this.now = history.timeAt(state.position);
    this.names = history.namesIn(state);
    this.children = history.childrenIn(state);
    this.mode = mode;
    this.wanted = isWanted;
    this.fill();
  }

  fill() {
    const listed = this.mode === "tree" && this.wanted === null ? this.branches() : this.list();
    const image = this.at >= 0 && this.at < this.rows.length ? this.rows[this.at].image : -1;
    this.rows = listed;
    if (this.at < 0 || this.at >= listed.length || listed[this.at].image !== image) {
      this.at = listed.findIndex((row) => row.image === (image < 0 ? this.chosen : image));
    }
    this.inner.style.height = `${listed.length * ROW_HEIGHT}px`;
    this.drawn = "";
    this.draw();
  }

  /** Return the rows of the tree, parents first. */
  branches() {
    const rows = [];
    const pending = [[this.children.get(-1), 0, 1]];
    while (pending.length > 0) {
      const top = pending[pending.length - 1];
      const [siblings, next, level] = top;
      if (next === siblings.length) {
        pending.pop();
        continue;
      }
      top[1] += 1;
      const image = siblings[next];
      const below = this.children.get(image);
      const isOpen = below === undefined ? null : !this.closed.has(image);
      rows.push({ image, level, place: next + 1, size: siblings.length, isOpen });
      if (isOpen) pending.push([below, 0, level + 1]);
    }
    return rows;
  }

  /** Return the rows of a list: those without children, or all, the newest first. */
  list() {
    const { made, id, note } = this.history;
    const images = [];
    for (const siblings of this.children.values()) {
      for (const image of siblings) {
        const isShown = this.mode !== "heads" || !this.children.has(image);
        if (isShown && (this.wanted === null || this.wanted(image, this.names.get(image)))) images.push(image);
      }
    }
    const isUnread = (image) => Number(note[image] !== "");
    const madeAt = (image) => made[image] ?? -Infinity;
    const order = (a, b) => isUnread(a) - isUnread(b) || madeAt(b) - madeAt(a) || (id[a] < id[b] ? -1 : 1);
    images.sort(order);
    return images.map((image, at) => ({ image, level: 1, place: at + 1, size: images.length, isOpen: null }));
  }

  /** Put the rows that are in sight into the document. */
  draw() {
    const first = Math.max(0, Math.floor(this.root.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const count = Math.ceil(this.root.clientHeight / ROW_HEIGHT) + 2 * SPARE_ROWS;
    const end = Math.min(this.rows.length, first + count);
    const wanted = `${first} ${end} ${this.at} ${this.chosen}`;
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    const drawn = [];
    for (let at = first; at < end; at += 1) drawn.push(this.row(at));
    this.inner.replaceChildren(...drawn);
    if (this.at >= first && this.at < end) this.root.setAttribute("aria-activedescendant", `row-${this.at}`);
    else this.root.removeAttribute("aria-activedescendant");
  }

  row(at) {
    const { image, level, place, size, isOpen } = this.rows[at];
    const { history } = this;
    const row = element("div", "row");
    row.id = `row-${at}`;
    row.dataset.at = at;
    row.dataset.id = history.id[image];
    row.style.top = `${at * ROW_HEIGHT}px`;
    row.style.paddingLeft = `${4 + (Math.min(level, LEVELS_SHOWN) - 1) * INDENT}px`;
    row.setAttribute("role", "treeitem");
    row.setAttribute("aria-level", level);
    row.setAttribute("aria-posinset", place);
    row.setAttribute("aria-setsize", size);
    row.setAttribute("aria-selected", image === this.chosen);
    if (isOpen !== null) row.setAttribute("aria-expanded", isOpen);
    if (at === this.at) row.classList.add("at");
    const mark = isOpen === null ? "" : isOpen ? "▾" : "▸";
    row.append(element("span", "mark", mark));
    row.firstChild.setAttribute("aria-hidden", "true");
    row.append(element("span", "id", history.short(image)));
    const names = (this.names.get(image) ?? []).filter((name) => !name.includes("@"));
    for (const name of names.slice(0, NAMES_SHOWN)) row.append(element("span", "name", name));
    if (names.length > NAMES_SHOWN) row.append(element("span", "quiet", `and ${names.length - NAMES_SHOWN} more`));
    if (level > LEVELS_SHOWN) row.append(element("span", "quiet", `level ${level}`));
    row.append(element("span", "age", ageOf(history.made[image], this.now)));
    const by = history.note[image] || history.by[image];
    if (by !== "") row.append(element("span", "by", by));
    return row;
  }

  /** Choose an image, bring its row into sight, and open what hides it. */
  reveal(image) {
    this.chosen = image;
    if (this.mode === "tree" && this.history !== undefined) {
      const parents = new Map();
      for (const [parent, children] of this.children) for (const child of children) parents.set(child, parent);
      for (let above = parents.get(image) ?? -1; above >= 0; above = parents.get(above)) this.closed.delete(above);
      this.fill();
    }
    const at = this.rows.findIndex((row) => row.image === image);
    if (at >= 0) this.moveTo(at);
    this.draw();
  }

  moveTo(at) {
    if (this.rows.length === 0) return;
    this.at = Math.max(0, Math.min(this.rows.length - 1, at));
    const top = this.at * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.root;
    if (top < scrollTop) this.root.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight) this.root.scrollTop = top + ROW_HEIGHT - clientHeight;
    this.draw();
  }

  toggle(at) {
    const { image, isOpen } = this.rows[at];
    if (isOpen) this.closed.add(image);
    else this.closed.delete(image);
    this.fill();
  }

  click(event) {
    const row = event.target.closest(".row");
    if (row === null) return;
    const at = Number(row.dataset.at);
    this.at = at;
    if (event.target.classList.contains("mark") && this.rows[at].isOpen !== null) this.toggle(at);
    else this.chooseAt(at);
  }

  chooseAt(at) {
    this.chosen = this.rows[at].image;
    this.draw();
    this.choose(this.chosen);
  }

  /** Do what the keys do in a tree: see the pattern of the ARIA Authoring Practices. */
  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.rows.length === 0) return;
    const page = Math.max(1, Math.floor(this.root.clientHeight / ROW_HEIGHT) - 1);
    const row = this.rows[this.at];
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (event.key in moves) this.moveTo(this.at < 0 ? 0 : this.at + moves[event.key]);
    else if (event.key === "Home") this.moveTo(0);
    else if (event.key === "End") this.moveTo(this.rows.length - 1);
    else if (row === undefined) return;
    else if (event.key === "ArrowRight" && row.isOpen === false) this.toggle(this.at);
    else if (event.key === "ArrowRight" && row.isOpen) this.moveTo(this.at + 1);
    else if (event.key === "ArrowLeft" && row.isOpen) this.toggle(this.at);
    else if (event.key === "ArrowLeft") this.moveTo(this.above(this.at));
    else if (event.key === "Enter" || event.key === " ") this.chooseAt(this.at);
    else return;
    event.preventDefault();
  }

  /** Return the row of the parent of a row, or the row itself. */
  above(at) {
    for (let found = at - 1; found >= 0; found -= 1) {
      if (this.rows[found].level < this.rows[at].level) return found;
    }
    return at;
  }
}
