import type { Seen, Step, StepPolicy, StepReport } from '../shared/steps.ts';

// What the script is told, in as few bytes as will do: it reads every one of them.

const texts = new WeakMap<StepPolicy, string>();

/** The batch as JSON. */
export function batchText(target: string, policy: StepPolicy, seen: Seen, steps: readonly Step[]): string {
  let text = texts.get(policy);
  if (text === undefined) {
    text = JSON.stringify(policyTold(policy));
    texts.set(policy, text);
  }
  const told = JSON.stringify(steps.map((step) => shortStep(step, policy)));
  return `{"target":${JSON.stringify(target)},"policy":${text},"seen":${JSON.stringify(seen)},"steps":${told}}`;
}

/** With the health policy once more as one string: when it changes, all that is out is due at another time. */
function policyTold(policy: StepPolicy): unknown {
  const { health } = policy;
  if (health === undefined) return policy;
  const { baseMs, maxMs, healthyMs, probeTimeoutMs, maxEjectedShare, minSamples, threshold } = health;
  const all = [baseMs, maxMs, healthyMs, probeTimeoutMs, maxEjectedShare, minSamples, threshold].join(' ');
  return { ...policy, health: { ...health, all } };
}

function shortStep(step: Step, { breaker }: StepPolicy): unknown {
  if (step.do !== 'settle') return step;
  const { reports } = step;
  // Any report may open the circuit, also one that all went well.
  const jitter = breaker === undefined ? undefined : reports.map(({ random }) => random[1]);
  return { do: 'settle', reports: reports.map(shortReport), jitter };
}

/** Without what is as it mostly is: `false`, 0, and chance where nothing is left to it. The usual one is a name only. */
function shortReport(report: StepReport): unknown {
  const { permit, trial, outcome, retryAfterMs, quota, graceMs, end, random, keepMs } = report;
  const plain = outcome === 'ok' && end && !trial && graceMs === 0;
  if (plain && retryAfterMs === undefined && quota === undefined) return permit;
  return {
    permit,
    outcome,
    trial: trial || undefined,
    retryAfterMs,
    quota,
    graceMs: graceMs === 0 ? undefined : graceMs,
    end: end || undefined,
    chance: outcome === 'network-error' ? random[0] : undefined,
    keepMs: end ? undefined : keepMs,
  };
}
