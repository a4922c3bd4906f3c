/**
 * Dates and durations as servers write them into headers. Every grammar is spelt out and anchored, so that what is not one
 * of them is nothing: `Date.parse` reads '-5' as 2001 and '120' as the year 120. No pattern can backtrack beyond linear.
 */

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const MONTH = '(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)';
const DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)';
const LONG_DAY = '(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day';
const TIME = '(\\d{2}):(\\d{2}):(\\d{2})';

// RFC 9110, 5.6.7: IMF-fixdate, and the two obsolete forms that a recipient must accept. The name of the day is not checked.
const IMF_FIXDATE = new RegExp(`^${DAY}, (\\d{2}) ${MONTH} (\\d{4}) ${TIME} (?:GMT|UTC)$`, 'i');
const RFC850_DATE = new RegExp(`^${LONG_DAY}, (\\d{2})-${MONTH}-(\\d{2}) ${TIME} (?:GMT|UTC)$`, 'i');
const ASCTIME_DATE = new RegExp(`^${DAY} ${MONTH} ( \\d|\\d{2}) ${TIME} (\\d{4})$`, 'i');

// RFC 3339, and Atlassian's yyyy-MM-ddTHH:mmZ. Without a zone it is the time of a place that we do not know.
const ISO_DATE = /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(\.\d+)?)?(?:Z|([+-])(\d{2}):?(\d{2}))$/i;

const NUMBER = '(\\d+(?:\\.\\d+)?)';

// Go's time.Duration.String: 1h2m3.5s, 6m0s, 12ms.
const GO_DURATION = new RegExp(`^(?=\\d)(?:${NUMBER}h)?(?:${NUMBER}m)?(?:${NUMBER}s)?(?:${NUMBER}ms)?$`, 'i');

// ISO 8601, 4.4.3, without years and months, whose length nobody knows.
const ISO_DURATION = new RegExp(
  `^P(?=[\\dT])(?:${NUMBER}W)?(?:${NUMBER}D)?(?:T(?=\\d)(?:${NUMBER}H)?(?:${NUMBER}M)?(?:${NUMBER}S)?)?$`,
  'i',
);

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY_MS = 24 * HOUR;
const GO_UNITS = [HOUR, MINUTE, SECOND, 1];
const ISO_UNITS = [7 * DAY_MS, DAY_MS, HOUR, MINUTE, SECOND];

/**
 * An HTTP-date in any of its three forms, or an ISO 8601 / RFC 3339 date-time with a zone, as milliseconds since the Unix
 * epoch; undefined for anything else, such as 31 February. `nowMs`, of the same kind, only settles the century of the two-digit years
 * of RFC 850: a date more than 50 years ahead is in the past.
 *
 * @example
 * parseDate('Sun, 06 Nov 1994 08:49:37 GMT', Date.now()); // 784111777000
 */
export function parseDate(text: string, nowMs: number): number | undefined {
  let m: RegExpExecArray | null;
  if ((m = IMF_FIXDATE.exec(text))) return utc(+m[3], month(m[2]), +m[1], +m[4], +m[5], +m[6]);
  if ((m = ASCTIME_DATE.exec(text))) return utc(+m[6], month(m[1]), +m[2], +m[3], +m[4], +m[5]);
  if ((m = RFC850_DATE.exec(text))) {
    const thisYear = new Date(nowMs).getUTCFullYear();
    let year = thisYear - (thisYear % 100) + Number(m[3]);
    if (year > thisYear + 50) year -= 100;
    return utc(year, month(m[2]), +m[1], +m[4], +m[5], +m[6]);
  }
  if ((m = ISO_DATE.exec(text))) {
    const [, year, mon, day, hour, minute, second = '0', fraction = '0', sign = '+', zoneHour = '0', zoneMinute = '0'] =
      m;
    if (+zoneHour > 23 || +zoneMinute > 59) return undefined;
    const local = utc(+year, +mon - 1, +day, +hour, +minute, +second);
    const offset = +zoneHour * HOUR + +zoneMinute * MINUTE;
    return local && local + +fraction * SECOND - (sign === '-' ? -offset : offset);
  }
  return undefined;
}

/**
 * A duration with units, Go's (`1m0s`, `12ms`) or ISO 8601's (`PT30S`, `P1DT2H`), in milliseconds; undefined for anything else.
 *
 * @example
 * parseDuration('6m0s'); // 360000
 */
export function parseDuration(text: string): number | undefined {
  const go = GO_DURATION.exec(text);
  if (go) return total(go, GO_UNITS);
  const iso = ISO_DURATION.exec(text);
  return iso ? total(iso, ISO_UNITS) : undefined;
}

function total(match: RegExpExecArray, units: readonly number[]): number {
  return units.reduce((sum, unit, i) => sum + Number(match[i + 1] ?? 0) * unit, 0);
}

function month(name: string): number {
  return MONTHS.indexOf(name.toLowerCase());
}

/** Undefined for a day or a time that there is not. A second of 60, a leap second, is the next minute. */
function utc(y: number, mon: number, d: number, h: number, min: number, s: number): number | undefined {
  if (h > 23 || min > 59 || s > 60) return undefined;
  const date = new Date(0);
  date.setUTCFullYear(y, mon, d); // unlike Date.UTC this takes the year 50 for the year 50
  if (date.getUTCMonth() !== mon || date.getUTCDate() !== d) return undefined;
  return date.setUTCHours(h, min, s);
}
