// Show one image and its story, what changed between two moments, and what happened up to one.

const LISTED_MAX = 100;
const RECORDS_SHOWN = 40;

/** Return a button that says something and does something. */
function button(className, text, act) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/** Put other parts into an element; the button in it that has the focus, or its like there, keeps it. */
function refill(root, parts) {
  const { activeElement } = document;
  const index = [...root.querySelectorAll("button")].indexOf(activeElement);
  root.replaceChildren(...parts);
  if (index < 0) return;
  const buttons = [...root.querySelectorAll("button")];
  const same = buttons.filter((one) => one.textContent === activeElement.textContent);
  const next = buttons[Math.min(index, buttons.length - 1)];
  (same.includes(next) || same.length === 0 ? next : same[0])?.focus({ preventScroll: true });
}

/** Make the parts of the page that name images and moments, all of which can be gone to. */
class Panels {
  /** `go` is called with a position, `choose` with the number of an image. */
  constructor(history, go, choose) {
    this.history = history;
    this.go = go;
    this.choose = choose;
  }

  image(image) {
    return button("link id", this.history.short(image), () => this.choose(image));
  }

  moment(position) {
    return button("link", `@${position}`, () => this.go(position));
  }

  /** Return a list of acts: when, who and why once, and below each what it did. */
  acts(indexes, position, didOf = () => "") {
    const { history } = this;
    const list = element("ol", "acts");
    let act = -1;
    let records = null;
    for (const at of indexes) {
      const here = history.since + at + 1;
      if (history.actOf(here) !== act) {
        act = history.actOf(here);
        const entry = element("li");
        const heading = element("p", "act");
        heading.append(element("time", "", clockTime(history.times[at])), element("span", "who", history.who[at]));
        if (history.why[at] !== "") heading.append(element("span", "why", history.why[at]));
        records = element("ul", "records");
        entry.append(heading, records);
        list.append(entry);
      }
      records.append(this.record(at, here > position, didOf(at)));
    }
    return list;
  }

  record(at, isLater, did) {
    const { history } = this;
    const entry = element("li", isLater ? "later" : "");
    const image = history.records.image[at];
    entry.append(this.moment(history.since + at + 1), element("span", "kind", history.kinds[history.records.kind[at]]));
    entry.append(image < 0 ? element("span", "", "the log") : this.image(image));
    const detail = history.detail(at);
    if (detail !== "") entry.append(element("span", "detail", detail));
    if (did !== "") entry.append(element("span", "detail", did));
    if (isLater) entry.append(element("span", "quiet", "later"));
    return entry;
  }

  /** Return what is known of an image at a state, and its story. */
  page(image, state, names) {
    const { history } = this;
    const parts = [element("p", "whole id", `sha256:${history.id[image]}`)];
    const facts = element("dl");
    const fact = (name, ...values) => {
      facts.append(element("dt", "", name));
      const value = element("dd");
      value.append(...values);
      facts.append(value);
    };
    if (state.has(image)) {
      const parent = state.parentOf(image);
      fact("names", ...(names.length > 0 ? names.map((name) => element("div", "", name)) : ["-"]));
      fact("parent", parent < 0 ? "-" : this.image(parent));
      const children = history.childrenIn(state).get(image) ?? [];
      fact("children", ...(children.length === 0 ? ["-"] : this.some(children)));
      fact("last updated", clockTime(state.updated[image]));
      fact("built", state.built[image] ? "here" : "not here, as far as is known");
    } else {
      parts.push(element("p", "notice", `It is not there at @${state.position}.`));
    }
    fact("created", clockTime(history.made[image]));
    fact("platform", history.platform[image] || "-");
    fact("layers", history.layers[image] === null ? "-" : String(history.layers[image]));
    if (history.by[image] !== "") fact("last step", element("code", "", history.by[image]));
    if (history.note[image] !== "") fact("config", history.note[image]);
    parts.push(facts, element("h3", "", "Its story"));
    const story = [...history.stories[image]].sort((a, b) => b[0] - a[0]);
    const did = new Map(story);
    const indexes = story.slice(0, LISTED_MAX).map(([at]) => at);
    parts.push(this.acts(indexes, state.position, (at) => did.get(at)));
    if (story.length > LISTED_MAX) parts.push(element("p", "quiet", `and ${story.length - LISTED_MAX} records before`));
    if (story.length === 0) parts.push(element("p", "quiet", "Nothing happened to it in the records shown here."));
    return parts;
  }

  /** Return the first of many images, and how many more there are. */
  some(images) {
    const shown = images.slice(0, LISTED_MAX).map((image) => this.image(image));
    if (images.length > LISTED_MAX) shown.push(element("span", "quiet", `and ${grouped(images.length - LISTED_MAX)} more`));
    return shown;
  }

  /** Return what differs between two states. */
  changes(before, after) {
    const { created, deleted, changed, named } = this.history.between(before, after);
    const summary = element("p", "summary");
    summary.append(this.moment(before.position), " to ", this.moment(after.position));
    const counts = `: ${grouped(created.length)} created, ${grouped(deleted.length)} deleted, ${grouped(changed.length)} changed`;
    summary.append(counts, named.length > 0 ? `; ${counted(named.length, "name")} moved` : "");
    const list = element("ul", "differences");
    const names = [before, after].map((state) => this.history.namesIn(state));
    const add = (sign, className, image, details) => {
      const entry = element("li", className);
      entry.append(element("span", "sign", sign), this.image(image));
      const known = names[sign === "−" ? 0 : 1].get(image) ?? [];
      for (const name of known) if (!name.includes("@")) entry.append(element("span", "name", name));
      for (const detail of details) entry.append(element("span", "detail", detail));
      list.append(entry);
    };
    created.slice(0, LISTED_MAX).forEach((image) => add("+", "created", image, []));
    deleted.slice(0, LISTED_MAX).forEach((image) => add("−", "deleted", image, []));
    changed.slice(0, LISTED_MAX).forEach(([image, what]) => add("~", "changed", image, what));
    for (const [name, was, is] of named.slice(0, LISTED_MAX)) {
      const entry = element("li", "moved");
      const [from, to] = [was, is].map((image) => (image < 0 ? "none" : this.image(image)));
      entry.append(element("span", "sign", "~"), element("span", "name", name), from, "→", to);
      list.append(entry);
    }
    const hidden = [created, deleted, changed, named].reduce((sum, all) => sum + Math.max(0, all.length - LISTED_MAX), 0);
    const parts = [summary, list];
    if (hidden > 0) parts.push(element("p", "quiet", `and ${grouped(hidden)} more`));
    return parts;
  }

  /** Return the newest records up to a position. */
  log(position, count) {
    const { history } = this;
    const last = position - history.since - 1;
    const indexes = [];
    for (let at = last; at >= 0 && indexes.length < count; at -= 1) indexes.push(at);
    if (indexes.length === 0) return [element("p", "quiet", "Nothing yet.")];
    return [this.acts(indexes, position)];
  }
}
