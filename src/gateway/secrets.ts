/** A part of a user name that is shorter says nothing of whose it is. */
const SHORTEST_PART = 6;

/**
 * What must not be shown of a proxy's credentials, in every spelling a gateway could repeat it in: as it is, percent-encoded, as UTF-8
 * read as Latin-1 (as header fields are), and as the value of `Proxy-Authorization`. Of a user name also its beginnings, because a provider that
 * speaks of the account leaves out the session: `customer-joe` of `customer-joe-session-x1`.
 */
export function spellingsOf(username: string, password: string): string[] {
  if (username === '' && password === '') return [];
  const spellings = new Set<string>([Buffer.from(`${username}:${password}`).toString('base64')]);
  for (const secret of [username, password, ...beginnings(username)]) {
    spellings.add(secret);
    spellings.add(Buffer.from(secret).toString('latin1'));
    spellings.add(percentEncoded(secret));
  }
  spellings.delete('');
  return [...spellings];
}

/** The user name up to each of its separators but the first: one word alone may be any word. */
function beginnings(username: string): string[] {
  const ends = [...username.matchAll(/[-_;,.]+/g)].slice(1).map(({ index }) => index);
  return ends.filter((end) => end >= SHORTEST_PART).map((end) => username.slice(0, end));
}

/** encodeURIComponent throws at half a surrogate pair. */
function percentEncoded(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}
