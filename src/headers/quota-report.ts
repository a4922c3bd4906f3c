import type { QuotaReport } from '../store/store.ts';
import { quotaSpacing } from './quota-spacing.ts';
import { parseRateLimit } from './rate-limit.ts';

/** Whether a look at the headers is worth it: every quota's header has it in its name. Cheap, since it is asked of every response. */
export function mayHoldQuota(headers: object): boolean {
  for (const name in headers) if (name.includes('limit')) return true;
  return false;
}

/** What the strictest of a response's quotas asks of the pacing; undefined for nothing. Never throws. */
export function quotaReport(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  wallNow: number,
  capMs: number,
): QuotaReport | undefined {
  let strictest: QuotaReport | undefined;
  for (const info of parseRateLimit(headers, wallNow, capMs)) {
    const asked = quotaSpacing(info, 0);
    if (asked === undefined || (strictest !== undefined && asked.spacingMs <= strictest.spacingMs)) continue;
    const { spacingMs, untilMs, exhausted } = asked;
    strictest = { spacingMs, forMs: untilMs, exhausted, account: info.scope === 'account' };
  }
  return strictest;
}
