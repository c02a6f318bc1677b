// Put the parts together: one moment, at most one image, and everything shown follows them.

const RETRY_MS = 2000;

const byId = (id) => document.getElementById(id);

class Page {
  constructor(data) {
    this.data = data;
    this.history = new History(data);
    this.position = this.history.last;
    this.marked = this.history.since;
    this.image = -1;
    this.shown = RECORDS_SHOWN;
    this.wanted = null;
    this.panels = new Panels(this.history, (position) => this.go(position), (image) => this.choose(image, true));
    this.tree = new Tree(byId("tree"), byId("rows"), (image) => this.choose(image, false));
    this.timeline = new Timeline(byId("bars"), (position) => this.go(position));
    this.slider = byId("moment");
    this.hasGrown = true;
    this.listen();
    this.follow(location.hash);
  }

  listen() {
    const { history } = this;
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    byId("first").addEventListener("click", () => this.go(history.since));
    byId("newest").addEventListener("click", () => this.go(history.last));
    byId("back").addEventListener("click", () => this.go(history.actBefore(this.position)));
    byId("forward").addEventListener("click", () => this.go(history.actAfter(this.position)));
    byId("jump").addEventListener("submit", (event) => {
      event.preventDefault();
      this.jump(byId("jump-to").value.trim());
    });
    byId("show").addEventListener("change", () => this.draw());
    byId("term").addEventListener("input", () => this.search());
    byId("against").addEventListener("change", () => this.drawChanges());
    byId("mark").addEventListener("click", () => {
      this.marked = this.position;
      byId("against").value = "mark";
      this.drawChanges();
    });
    byId("earlier").addEventListener("click", () => {
      this.shown += 5 * RECORDS_SHOWN;
      this.drawLog();
    });
    byId("zone").addEventListener("change", () => {
      Zone.local = byId("zone").value === "local";
      this.grown();
      this.draw();
    });
    addEventListener("hashchange", () => this.follow(location.hash));
  }

  /** Go where the part of the address behind the `#` says: a moment, perhaps an image. */
  follow(hash) {
    const match = /^#(?:@(\d{1,15})|now)(?:\/([0-9a-f]{64}))?$/.exec(hash);
    const image = match === null ? undefined : this.history.numbers.get(match[2]);
    if (image !== undefined) this.image = image;
    const position = match === null ? this.position : Number(match[1] ?? this.history.last);
    byId("jump-error").textContent = this.isThere(position) ? "" : `There is no @${position}. ${this.range()}`;
    this.go(position);
    this.drawNow();
    if (image !== undefined) this.tree.reveal(image);
  }

  /** Show the moment at a position, as near to it as there is one. */
  go(position) {
    this.position = Math.max(this.history.since, Math.min(this.history.last, position));
    this.shown = RECORDS_SHOWN;
    this.drawSoon();
  }

  /** Draw with the next frame: a drag asks for more moments than a screen shows. */
  drawSoon() {
    if (this.asked !== undefined) return;
    this.asked = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    if (this.asked !== undefined) cancelAnimationFrame(this.asked);
    this.asked = undefined;
    if (this.hasGrown) this.grown();
    this.draw();
  }

  isThere(position) {
    return position >= this.history.since && position <= this.history.last;
  }

  /** Say which moments there are. */
  range() {
    const { since, last } = this.history;
    const from = since > 0 ? `@${since}, ${clockTime(this.history.sinceTime)},` : `@${since}`;
    return `There are moments from ${from} to @${last}.`;
  }

  /** Go to the moment that a text names, or say why there is none. */
  jump(text) {
    const match = /^@?(\d{1,15})$/.exec(text);
    const instant = match === null ? instantOf(text) : NaN;
    const isBefore = this.history.since > 0 && instant < this.history.sinceTime;
    const isMoment = match === null ? !Number.isNaN(instant) && !isBefore : this.isThere(Number(match[1]));
    const isUnread = match === null && Number.isNaN(instant);
    byId("jump-error").textContent = isMoment ? "" : isUnread ? "Write @120 or 2026-01-31 14:00." : this.range();
    if (isMoment) this.go(match === null ? this.history.positionAt(instant) : Number(match[1]));
  }

  /** Show all that depends on the moment. */
  draw() {
    const { history } = this;
    const state = history.at(this.position);
    this.slider.value = this.position;
    const time = this.position > history.since || history.since > 0 ? clockTime(history.timeAt(this.position)) : "empty";
    const now = `@${this.position}, ${time}, ${counted(state.count, "image")}`;
    this.slider.setAttribute("aria-valuetext", now);
    byId("now").textContent = now;
    this.timeline.point(this.position);
    this.tree.show(history, state, byId("show").value, this.wanted);
    this.told();
    this.drawImage();
    this.drawChanges();
    this.drawLog();
    clearTimeout(this.noting);
    this.noting = setTimeout(() => this.note(), 250);
  }

  /** Let the address lead here again; where records come, the newest moment is whichever it is then. */
  note() {
    const { history } = this;
    const image = this.image < 0 ? "" : `/${history.id[this.image]}`;
    const moment = this.data.live && this.position === history.last ? "now" : `@${this.position}`;
    window.history.replaceState(null, "", `#${moment}${image}`);
  }

  /** Say how many images a search has found. */
  told() {
    const gone = this.wanted === null ? [] : this.goneFound();
    const what = byId("show").value === "heads" ? " without children" : "";
    const there = this.wanted === null ? "" : `${counted(this.tree.rows.length, "image")}${what} found at this moment`;
    say(there + (gone.length > 0 ? `; ${grouped(gone.length)} not there now:` : ""), "count");
    refill(byId("gone"), this.panels.some(gone));
  }

  /** Return the images that a search has found and that are not there at the moment. */
  goneFound() {
    const state = this.history.at(this.position);
    const everNamed = this.history.everNamed();
    return this.history
      .sorted()
      .filter((image) => !state.has(image) && this.wanted(image, [...(everNamed.get(image) ?? [])]));
  }

  search() {
    const term = byId("term").value.trim().toLowerCase().replace(/^sha256:/, "");
    const { id, by } = this.history;
    const isId = /^[0-9a-f]+$/.test(term);
    this.wanted =
      term === ""
        ? null
        : (image, names = []) =>
            (isId && id[image].startsWith(term)) ||
            names.some((name) => name.toLowerCase().includes(term)) ||
            by[image].toLowerCase().includes(term);
    this.draw();
  }

  choose(image, isElsewhere) {
    this.image = image;
    this.draw();
    if (isElsewhere) this.tree.reveal(image);
    byId("image").firstElementChild.scrollIntoView({ block: "nearest" });
  }

  drawImage() {
    if (this.image < 0) return;
    const state = this.history.at(this.position);
    const names = this.history.namesIn(state).get(this.image) ?? [];
    refill(byId("image"), this.panels.page(this.image, state, names));
  }

  drawChanges() {
    const { history } = this;
    const against = { act: history.actBefore(this.position), mark: this.marked, first: history.since };
    const other = history.at(against[byId("against").value]).copy(history.id.length, history.names.length);
    refill(byId("changes"), this.panels.changes(other, history.at(this.position)));
  }

  drawLog() {
    refill(byId("log"), this.panels.log(this.position, this.shown));
    byId("earlier").hidden = this.position - this.history.since <= this.shown;
  }

  /** Show what depends on how long the history is. */
  grown() {
    const { history } = this;
    this.hasGrown = false;
    this.slider.min = history.since;
    this.slider.max = history.last;
    this.timeline.show(history);
    byId("growth").replaceChildren(growthPlot(history), kindsTable(history));
    byId("summary").textContent =
      `${counted(history.length, "record")}, ${counted(history.newest.count, "image")} now` +
      (history.since > 0 ? `; what was before @${history.since} is not shown` : "");
    byId("about").textContent = `Store ${this.data.store}`;
    byId("reached").textContent = `@${history.last}`;
  }

  /** Take in records that have come; who looks at the newest moment goes on with it. */
  take(updates) {
    const isNewest = this.position === this.history.last;
    const follow = updates.every((update) => this.history.append(update));
    if (isNewest) this.position = this.history.last;
    if (!follow) {
      this.note();
      location.reload(); // a compaction has dropped what would have come between
      return;
    }
    this.hasGrown = true;
    this.drawSoon();
  }

  /** Ask the server that the page came from for what comes, while the page is looked at. */
  listenToServer() {
    byId("live").hidden = false;
    document.addEventListener("visibilitychange", () => this.connect());
    this.connect();
  }

  connect() {
    clearTimeout(this.retry);
    this.stream?.close();
    // A browser holds six connections to a server: with as many pages behind, none could be opened.
    if (document.hidden) {
      say("Paused");
      return;
    }
    // The address says from where on, so each try is a new one.
    this.stream = new EventSource(`updates?after=${this.history.last}`);
    this.stream.addEventListener("open", () => say("Live"));
    this.stream.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    this.stream.addEventListener("error", () => {
      // It is closed where another server than the one of this page has answered.
      const isOther = this.stream.readyState === EventSource.CLOSED;
      say(isOther ? "Not live: open the address that the server has printed" : "Not connected; trying again");
      this.stream.close();
      this.retry = setTimeout(() => this.connect(), RETRY_MS);
    });
  }
}

/** Say something to all, also to those who do not see it; the same again is not said. */
function say(text, id = "connection") {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

const page = new Page(JSON.parse(byId("history").textContent));
if (page.data.live) page.listenToServer();
