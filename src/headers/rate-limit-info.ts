/** What a response says of one quota. Everything but `source` is there only if it was said, in a form that could be understood. */
export interface RateLimitInfo {
  /** The quota's own name: of its policy, its bucket, its resource, or what it counts (`requests`, `tokens`). */
  readonly name?: string;
  /** Units per window, > 0. */
  readonly limit?: number;
  /** Units left until the reset, ≥ 0. Fractions occur (Reddit). */
  readonly remaining?: number;
  /** Milliseconds from now until it is full again (or refilled, as the server sees it), ≥ 0 and capped. */
  readonly resetMs?: number;
  /** Length of the window in milliseconds, > 0. */
  readonly windowMs?: number;
  /** What is counted when it is not requests: `tokens`, `content-bytes`, `concurrent-requests`. */
  readonly unit?: string;
  /**
   * `account`: it follows the credentials (or the resource), another egress does not help · `egress`: it is counted by IP.
   * Undefined where the headers do not tell; then the rule for the target has to.
   */
  readonly scope?: 'egress' | 'account';
  /** Which headers it was read from: their name, or what their names have in common. */
  readonly source: string;
}
