// Fold the records into the state at any position, by the rules that the store folds by.
//
// An image that is deleted orphans its children without any work: a parent counts only if it was
// created before the record that made it the parent, and a name only if its image was created
// before the record that gave it. States are kept at some positions, so that a move costs what lies
// between the nearest of them and where it goes to.

const STATES_MAX = 64;
const STATE_BYTES_MAX = 1 << 26;
const SHORT = 12;

/** The images and names at a position, by their numbers. */
class State {
  constructor(images, names) {
    this.position = 0;
    this.count = 0;
    this.created = new Int32Array(images); // 0 for one that is not there
    this.parent = new Int32Array(images).fill(-1);
    this.parentAt = new Int32Array(images);
    this.updated = new Float64Array(images).fill(NaN);
    this.built = new Uint8Array(images);
    this.named = new Int32Array(names).fill(-1);
    this.namedAt = new Int32Array(names);
  }

  /** Return a state that is the same, with room for at least so many images and names. */
  copy(images, names) {
    const other = new State(Math.max(images, this.created.length), Math.max(names, this.named.length));
    other.position = this.position;
    other.count = this.count;
    for (const part of ["created", "parent", "parentAt", "updated", "built", "named", "namedAt"]) {
      other[part].set(this[part]);
    }
    return other;
  }

  /** Tell whether an image is there. */
  has(image) {
    return image >= 0 && this.created[image] > 0;
  }

  /** Return the number of the parent that an image has, -1 if none that is there. */
  parentOf(image) {
    const parent = this.parent[image];
    return this.has(parent) && this.created[parent] <= this.parentAt[image] ? parent : -1;
  }

  /** Return the number of the image that a name means, -1 if none. */
  meant(name) {
    const image = this.named[name];
    return this.has(image) && this.created[image] <= this.namedAt[name] ? image : -1;
  }
}

/** All that the page was given, and what is derived from it. */
class History {
  constructor(data) {
    this.since = data.since.position;
    this.sinceTime = data.since.time;
    this.kinds = data.kinds;
    this.kind = Object.fromEntries(data.kinds.map((name, number) => [name, number]));
    this.texts = data.texts;
    this.names = data.names;
    this.id = data.images.id;
    this.made = data.images.created;
    this.layers = data.images.layers;
    for (const part of ["platform", "by", "note"]) {
      this[part] = data.images[part].map((number) => data.texts[number]);
    }
    this.records = data.records;
    this.times = [];
    let time = 0;
    for (const step of data.records.time) this.times.push((time += step));
    this.who = data.records.who.map((number) => data.texts[number]);
    this.why = data.records.why.map((number) => data.texts[number]);
    const described = this.kind.described;
    this.of = data.records.of.map((of, at) => (data.records.kind[at] === described ? data.texts[of] : of));
    this.numbers = new Map(this.id.map((id, number) => [id, number]));
    this.nameNumbers = new Map(this.names.map((name, number) => [name, number]));
    this.namesBefore = data.since.names;
    this.hadNames = new Map();
    this.namedThrough = 0;
    this.begin(data.since);
  }

  get length() {
    return this.times.length;
  }

  get last() {
    return this.since + this.length;
  }

  /** Derive what needs a look at each record: states on the way, stories, and how many there were. */
  begin(since) {
    this.order = null;
    this.counts = [];
    this.stories = this.id.map(() => []);
    this.childSets = new Map();
    const state = new State(this.id.length, this.names.length);
    state.position = this.since;
    for (const [image, created, parent, parentAt, updated, built] of since.images) {
      state.created[image] = created;
      state.parent[image] = parent;
      state.parentAt[image] = parentAt;
      state.updated[image] = updated === null ? NaN : updated;
      state.built[image] = built;
      state.count += 1;
      if (parent >= 0) this.childrenNow(parent).add(image);
    }
    for (const [name, image] of since.names) {
      state.named[name] = image;
      state.namedAt[name] = this.since;
    }
    this.interval = Math.max(256, Math.ceil(this.length / this.statesKept()));
    this.states = [state.copy(0, 0)];
    this.newest = state;
    for (let at = 0; at < this.length; at += 1) this.pass(at);
    this.current = this.newest.copy(0, 0);
  }

  /** Return how many states there is room for. */
  statesKept() {
    const bytes = 21 * this.id.length + 8 * this.names.length + 1;
    return Math.max(2, Math.min(STATES_MAX, Math.floor(STATE_BYTES_MAX / bytes)));
  }

  childrenNow(image) {
    let children = this.childSets.get(image);
    if (children === undefined) this.childSets.set(image, (children = new Set()));
    return children;
  }

  /** Move the newest state over the record at an index, and derive what follows from it. */
  pass(at) {
    const state = this.newest;
    const { kind } = this;
    const image = this.records.image[at];
    const what = this.records.kind[at];
    const of = this.of[at];
    if (image >= 0) this.stories[image].push([at, ""]);
    if (what === kind["parent-set"]) {
      const before = state.parentOf(image);
      if (before >= 0) this.childrenNow(before).delete(image);
      if (of >= 0) this.childrenNow(of).add(image);
    } else if (what === kind.deleted) {
      const parent = state.parentOf(image);
      if (parent >= 0) this.childrenNow(parent).delete(image);
      for (const child of this.childSets.get(image) ?? []) this.stories[child].push([at, "orphaned"]);
      this.childSets.delete(image);
    } else if (what === kind.tagged) {
      const owner = state.meant(of);
      if (owner >= 0 && owner !== image) this.stories[owner].push([at, "lost a name"]);
    }
    this.apply(state, at);
    this.counts.push(state.count);
    if (state.position - this.states[this.states.length - 1].position < this.interval) return;
    this.states.push(state.copy(0, 0));
    if (this.states.length > 2 * this.statesKept()) {
      // A page that is open for long keeps as many as one that begins with all of its records.
      this.states = this.states.filter((_, number) => number % 2 === 0);
      this.interval *= 2;
    }
  }

  /** Move a state over the record at an index, which is the next. */
  apply(state, at) {
    const { kind } = this;
    const position = this.since + at + 1;
    const image = this.records.image[at];
    const of = this.of[at];
    switch (this.records.kind[at]) {
      case kind.created:
        state.created[image] = position;
        state.parent[image] = -1;
        state.parentAt[image] = 0;
        state.updated[image] = NaN;
        state.built[image] = 0;
        state.count += 1;
        break;
      case kind["parent-set"]:
        state.parent[image] = of;
        state.parentAt[image] = position;
        break;
      case kind["last-updated-set"]:
        state.updated[image] = of;
        break;
      case kind["marked-built"]:
        state.built[image] = 1;
        break;
      case kind.deleted:
        state.created[image] = 0;
        state.count -= 1;
        break;
      case kind.tagged:
        state.named[of] = image;
        state.namedAt[of] = position;
        break;
      case kind.untagged:
        state.named[of] = -1;
        break;
      default: // what changes no state: a redaction, a manifest, a compaction
    }
    state.position = position;
  }

  /** Return the state at a position. It is moved by the next call: copy what should stay. */
  at(position) {
    let state = this.current;
    if (position < state.position || position - state.position > this.interval) {
      const nearest = Math.min(Math.floor((position - this.since) / this.interval), this.states.length - 1);
      let found = nearest;
      while (this.states[found].position > position) found -= 1;
      if (position < state.position || this.states[found].position > state.position) {
        state = this.states[found].copy(this.newest.created.length, this.newest.named.length);
      }
    }
    for (let at = state.position - this.since; at < position - this.since; at += 1) this.apply(state, at);
    this.current = state;
    return state;
  }

  /** Return the time of the record at a position. */
  timeAt(position) {
    return position > this.since ? this.times[position - this.since - 1] : this.sinceTime;
  }

  /** Return the last position at or before an instant. */
  positionAt(instant) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= instant) low = middle + 1;
      else high = middle;
    }
    return this.since + low;
  }

  /** Return the first position of the act that the record at a position belongs to. */
  actOf(position) {
    return position - this.records.batch[position - this.since - 1];
  }

  /** Return the last position of the act before a position. */
  actBefore(position) {
    return position <= this.since ? this.since : Math.max(this.since, this.actOf(position) - 1);
  }

  /** Return the last position of the act after a position. */
  actAfter(position) {
    if (position >= this.last) return this.last;
    const first = this.actOf(position + 1);
    let end = position + 1;
    while (end < this.last && this.actOf(end + 1) === first) end += 1;
    return end;
  }

  /** Return all images in the order of their ids. */
  sorted() {
    if (this.order === null || this.order.length !== this.id.length) {
      this.order = this.id.map((_, image) => image);
      this.order.sort((a, b) => (this.id[a] < this.id[b] ? -1 : 1));
      this.lengths = new Uint8Array(this.id.length).fill(SHORT);
      for (let at = 1; at < this.order.length; at += 1) {
        const [one, other] = [this.id[this.order[at - 1]], this.id[this.order[at]]];
        let same = 0;
        while (same < one.length && one[same] === other[same]) same += 1;
        for (const image of [this.order[at - 1], this.order[at]]) {
          this.lengths[image] = Math.max(this.lengths[image], same + 1);
        }
      }
    }
    return this.order;
  }

  /** Return as many digits of an image's id as it takes to tell it from all others. */
  short(image) {
    this.sorted();
    return this.id[image].slice(0, this.lengths[image]);
  }

  /** Return the names that people gave to the images of a state, by the image's number. */
  namesIn(state) {
    const found = new Map();
    for (let name = 0; name < this.names.length; name += 1) {
      const image = state.meant(name);
      if (image < 0) continue;
      const known = found.get(image);
      if (known === undefined) found.set(image, [this.names[name]]);
      else known.push(this.names[name]);
    }
    for (const names of found.values()) names.sort();
    return found;
  }

  /** Return all names that images had at any moment, by the image's number. */
  everNamed() {
    const note = (image, name) => {
      if (!this.hadNames.has(image)) this.hadNames.set(image, new Set());
      this.hadNames.get(image).add(this.names[name]);
    };
    if (this.namedThrough === 0) for (const [name, image] of this.namesBefore) note(image, name);
    for (let at = this.namedThrough; at < this.length; at += 1) {
      if (this.records.kind[at] === this.kind.tagged) note(this.records.image[at], this.of[at]);
    }
    this.namedThrough = this.length;
    return this.hadNames;
  }

  /** Return the children of each image of a state, in the order of their ids; -1 has the roots. */
  childrenIn(state) {
    const found = new Map([[-1, []]]);
    for (const image of this.sorted()) {
      if (!state.has(image)) continue;
      const parent = state.parentOf(image);
      const known = found.get(parent);
      if (known === undefined) found.set(parent, [image]);
      else known.push(image);
    }
    return found;
  }

  /** Return what differs between two states. */
  between(before, after) {
    const created = [];
    const deleted = [];
    const changed = [];
    for (const image of this.sorted()) {
      const was = before.has(image);
      const is = after.has(image);
      if (is && !was) created.push(image);
      else if (was && !is) deleted.push(image);
      else if (is) {
        const what = this.changesOf(image, before, after);
        if (what.length > 0) changed.push([image, what]);
      }
    }
    return { created, deleted, changed, named: this.namedBetween(before, after) };
  }

  /** Return the names that went from one image to another, with these; -1 for none. */
  namedBetween(before, after) {
    const found = [];
    this.names.forEach((name, number) => {
      const [was, is] = [before.meant(number), after.meant(number)];
      // What came or went with its image is said there.
      const isOwn = (was < 0 && !before.has(is)) || (is < 0 && !after.has(was));
      if (was !== is && !isOwn && !name.includes("@")) found.push([name, was, is]);
    });
    return found.sort(([one], [other]) => (one < other ? -1 : 1));
  }

  changesOf(image, before, after) {
    const what = [];
    const parents = [before.parentOf(image), after.parentOf(image)];
    if (before.created[image] !== after.created[image]) what.push("created again");
    if (parents[0] !== parents[1]) {
      const [was, is] = parents.map((parent) => (parent < 0 ? "none" : this.short(parent)));
      what.push(`parent ${was} → ${is}`);
    }
    if (!Object.is(before.updated[image], after.updated[image])) {
      const [was, is] = [before.updated[image], after.updated[image]].map(clockTime);
      what.push(was === is ? `last updated again within ${is}` : `last updated ${was} → ${is}`);
    }
    if (before.built[image] !== after.built[image]) {
      what.push(after.built[image] ? "built here" : "no longer marked as built");
    }
    return what;
  }

  /** Say in a few words what a record says, apart from its kind and its image. */
  detail(at) {
    const { kind } = this;
    const of = this.of[at];
    switch (this.records.kind[at]) {
      case kind["parent-set"]:
        return of < 0 ? "no parent" : `parent ${this.short(of)}`;
      case kind["last-updated-set"]:
        return clockTime(of);
      case kind.tagged:
      case kind.untagged:
        return this.names[of];
      case kind.described:
        return `manifest ${of.replace("sha256:", "").slice(0, SHORT)}`;
      case kind.compacted:
        return `through @${of}`;
      default:
        return "";
    }
  }

  /** Return the number of an image by the digits of its id; a new one gets the next. */
  imageNumber(id) {
    let number = this.numbers.get(id);
    if (number === undefined) {
      number = this.id.length;
      this.numbers.set(id, number);
      this.id.push(id);
      this.stories.push([]);
      this.made.push(null);
      this.layers.push(null);
      for (const part of [this.platform, this.by, this.note]) part.push("");
    }
    return number;
  }

  nameNumber(name) {
    let number = this.nameNumbers.get(name);
    if (number === undefined) {
      number = this.names.length;
      this.nameNumbers.set(name, number);
      this.names.push(name);
    }
    return number;
  }

  /** Take in a record that has come since; tell whether it could follow those that are here. */
  append(update) {
    if (update.position !== this.last + 1) return update.position <= this.last;
    const { kind } = this;
    const image = update.image === null ? -1 : this.imageNumber(update.image);
    let of = update.of;
    if (update.kind === kind["parent-set"]) of = of === null ? -1 : this.imageNumber(of);
    else if (update.kind === kind.tagged || update.kind === kind.untagged) of = this.nameNumber(of);
    if (update.facts !== null) {
      [this.made[image], this.platform[image], this.layers[image], this.by[image], this.note[image]] = update.facts;
    }
    this.times.push(update.time);
    this.records.kind.push(update.kind);
    this.records.image.push(image);
    this.records.batch.push(update.batch);
    this.of.push(of);
    this.who.push(update.who);
    this.why.push(update.why);
    if (this.newest.created.length < this.id.length || this.newest.named.length < this.names.length) {
      // Twice as much as is needed, so that this is rare.
      this.newest = this.newest.copy(2 * this.id.length, 2 * this.names.length);
      this.current = this.current.copy(2 * this.id.length, 2 * this.names.length);
    }
    this.pass(this.length - 1);
    return true;
  }
}
