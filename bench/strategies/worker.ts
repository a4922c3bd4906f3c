import { parentPort, workerData } from 'node:worker_threads';
import { measure } from './measure.ts';

const { name, seed, urls } = workerData;
parentPort?.postMessage(await measure(name, seed, urls));
