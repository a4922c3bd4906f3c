import type { ReserveStep, StepReport, StepRoute } from '../../src/store/shared/steps.ts';

// Steps as they mostly are.

export const stepRoute = (id: string, egress: string, more: Partial<StepRoute> = {}): StepRoute => ({
  id,
  pool: 'pool',
  egress,
  weight: 1,
  shared: true,
  trial: false,
  closed: false,
  ...more,
});

export const reserveStep = (id: string, more: Partial<ReserveStep> = {}): ReserveStep => ({
  do: 'reserve',
  id,
  count: 1,
  cost: 1,
  pool: 'pool',
  offers: [],
  more: false,
  patienceMs: 0,
  horizonMs: 0,
  deadlineMs: 1000,
  random: [],
  ...more,
});

export const stepReport = (permit: string, more: Partial<StepReport> = {}): StepReport => ({
  permit,
  trial: false,
  outcome: 'ok',
  graceMs: 0,
  end: true,
  random: [0, 0],
  keepMs: 60_000,
  ...more,
});
