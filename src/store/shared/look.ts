import { CLOSED, HALF_OPEN } from '../../limits/breaker-core.ts';
import { ownLimit, usableAt, wellFrom } from './egress.ts';
import { circuitWaitMs, gateConcurrency, gateLimit, gateOpenAt } from './gate.ts';
import type { Decision } from './rows.ts';
import { slotsFree } from './slot-row.ts';
import { accountAt, accountLimit } from './slots-taken.ts';
import type { SnapshotAnswer } from './steps.ts';

/** What there is to see of the target. What would be Infinity is left out. */
export function inspect(at: Decision): SnapshotAnswer {
  const { target, rows, gate, now } = at;
  const phase = gate.circuit?.phase ?? CLOSED;
  return {
    target,
    active: rows.permitCount(),
    limit: finite(gateLimit(at)),
    concurrency: finite(gateConcurrency(at)),
    circuit: phase === CLOSED ? 'closed' : phase === HALF_OPEN ? 'half-open' : 'open',
    restMs: Math.max(0, gateOpenAt(at) - now, circuitWaitMs(at)),
    egresses: inspectEgresses(at),
  };
}

function inspectEgresses(at: Decision): SnapshotAnswer['egresses'] {
  const { rows, gate, policy, now } = at;
  const account = policy.account ? gate.account : undefined;
  const accountInMs = Math.max(0, accountAt(at, 1) - now);
  const accountFree =
    account === undefined
      ? Infinity
      : accountInMs > 0
        ? 0
        : slotsFree(account, accountLimit(account), gate.windowMs, now);
  return rows.egresses().map((egress) => {
    const row = rows.egress(egress)!;
    const usableInMs = Math.max(0, usableAt(at, row) - now);
    const free = slotsFree(row, ownLimit(gate), gate.windowMs, now);
    return {
      egress,
      busy: row.busy,
      cooling: row.cooling.length,
      remaining: finite(Math.min(usableInMs > 0 ? 0 : free, accountFree)),
      usableInMs: finite(Math.max(usableInMs, accountInMs)),
      cooldownMs: Math.max(0, row.cooldown - now),
      ejectedMs: Math.max(0, wellFrom(at, row) - now),
    };
  });
}

function finite(value: number): number | undefined {
  return value === Infinity ? undefined : value;
}
