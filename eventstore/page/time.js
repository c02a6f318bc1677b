// Write instants and ages as people read them. Instants are microseconds since 1970.

const Zone = { local: false };

const two = (number) => String(number).padStart(2, "0");

/** Return an instant to the second, with its zone. */
function clockTime(instant) {
  if (instant === null || Number.isNaN(instant)) return "-";
  const date = new Date(Math.floor(instant / 1000));
  if (Number.isNaN(date.getTime())) return "-";
  if (!Zone.local) {
    return date.toISOString().slice(0, 19).replace("T", " ") + "Z";
  }
  const offset = -date.getTimezoneOffset();
  const sign = offset < 0 ? "-" : "+";
  const zone = offset === 0 ? "Z" : sign + two(Math.floor(Math.abs(offset) / 60)) + two(Math.abs(offset) % 60);
  const day = `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${zone}`;
}

/** Return the day of an instant. */
function dayOf(instant) {
  return clockTime(instant).slice(0, 10);
}

const AGES = [
  [31536000, "year"],
  [2592000, "month"],
  [604800, "week"],
  [86400, "day"],
  [3600, "hour"],
  [60, "minute"],
  [1, "second"],
];

/** Return how long before another instant one was, in its greatest unit. */
function ageOf(instant, now) {
  if (instant === null || Number.isNaN(instant)) return "-";
  const seconds = Math.floor((now - instant) / 1e6);
  if (seconds < 0) return "later";
  for (const [length, unit] of AGES) {
    const count = Math.floor(seconds / length);
    if (count > 0) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return "just then";
}

/** Return the instant that a text names, NaN if none; without a zone it is read as times are shown. */
function instantOf(text) {
  const match = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?(Z|[+-]\d\d:?\d\d)?$/.exec(text);
  if (match === null) return NaN;
  const [, year, month, day, hour = "00", minute = "00", second = "00", zone] = match;
  if (Number(day) > new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate()) return NaN;
  const written = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const zoned = zone === undefined ? (Zone.local ? "" : "Z") : zone.replace(/^(...)(\d\d)$/, "$1:$2");
  return Date.parse(written + zoned) * 1000;
}

/** Return a number with its thousands apart. */
function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Return a count and its noun. */
function counted(number, noun) {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}
