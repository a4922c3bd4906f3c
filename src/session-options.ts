import { ConfigError } from './errors.ts';
import type { Pool } from './gateway/pool.ts';
import { checkSessionId } from './gateway/template.ts';
import type { RotateOptions, SessionOptions } from './session.ts';
import { invalid, knownOnly } from './validate.ts';

/** What can be said of a session's options without its pool. */
export function checkSessionOptions(options: SessionOptions): void {
  knownOnly('session', options, ['id', 'pool', 'strict', 'cookies']);
  if (options.id !== undefined) checkSessionId('session.id', options.id);
  isSwitch('session.strict', options.strict);
  isSwitch('session.cookies', options.cookies);
}

/** Where exits go unnamed, a strict session would be one in name only. */
export function checkStrict({ name, options }: Pool): void {
  const { way, egressHeaders, probeUrl } = options;
  if (way.kind === 'direct' || (egressHeaders.length > 0 && probeUrl === undefined)) return;
  const has = probeUrl === undefined ? 'does not name them' : 'asks a probe page once a session';
  throw new ConfigError(
    `session.strict: expected a pool that names the exit of every tunnel (egress: { header }), got '${name}', which ${has}`,
    { option: 'session.strict' },
  );
}

export function checkRotateOptions(options: RotateOptions): void {
  knownOnly('rotate', options, ['keepCookies']);
  isSwitch('rotate.keepCookies', options.keepCookies);
}

function isSwitch(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean') throw invalid(option, 'true or false', value);
}
