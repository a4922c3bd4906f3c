import type { Seen, Step, StepPolicy, StepReport } from '../shared/steps.ts';

// What the script is told, in as few bytes as will do: it reads every one of them.

const texts = new WeakMap<StepPolicy, string>();

/** The batch as JSON. */
export function batchText(target: string, policy: StepPolicy, seen: Seen, steps: readonly Step[]): string {
  let text = texts.get(policy);
  if (text === undefined) {
    text = JSON.stringify(policy);
    texts.set(policy, text);
  }
  const told = JSON.stringify(steps.map((step) => shortStep(step, policy)));
  return `{"target":${JSON.stringify(target)},"policy":${text},"seen":${JSON.stringify(seen)},"steps":${told}}`;
}

function shortStep(step: Step, { breaker }: StepPolicy): unknown {
  if (step.do !== 'settle') return step;
  return { do: 'settle', reports: step.reports.map((report) => shortReport(report, breaker !== undefined)) };
}

/** Without what is as it mostly is: `false`, 0, and chance where nothing is left to it. */
function shortReport(report: StepReport, mayTrip: boolean): unknown {
  const { permit, trial, outcome, retryAfterMs, quota, graceMs, end, random, keepMs } = report;
  return {
    permit,
    outcome,
    trial: trial || undefined,
    retryAfterMs,
    quota,
    graceMs: graceMs === 0 ? undefined : graceMs,
    end: end || undefined,
    random: mayTrip || outcome === 'network-error' ? random : undefined,
    keepMs: end ? undefined : keepMs,
  };
}
