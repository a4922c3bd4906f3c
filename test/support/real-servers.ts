import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** A server of its own, on loopback, in a directory of its own; disposing ends the process and removes the directory. */
export interface RealServer extends AsyncDisposable {
  readonly port: number;
  readonly directory: string;
  /** What it wrote to a file of its directory. */
  read(file: string): Promise<string>;
}

/** Path of an installed program; `scripts/test-servers.sh` installs those that tests use. */
export function programPath(name: string): string | undefined {
  const places = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  for (const place of places) {
    try {
      accessSync(join(place, name), constants.X_OK);
      return join(place, name);
    } catch {}
  }
  return undefined;
}

/** Whether to skip the tests of a program: it is not there, and this is not CI, where it has to be. */
export function isMissing(name: string): boolean {
  return programPath(name) === undefined && !process.env.CI;
}

const asRoot = process.getuid?.() === 0;

/** Below those that the system gives to outgoing connections: none of them takes it before the server does. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 22_000 + Math.floor(Math.random() * 10_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

async function start(
  name: string,
  prepare: (directory: string, port: number) => Promise<readonly string[]>,
): Promise<RealServer> {
  const program = programPath(name);
  if (program === undefined) throw new Error(`${name} is not installed: run scripts/test-servers.sh`);
  const directory = await mkdtemp(join(tmpdir(), `paceline-${name}-`));
  // The server may give up its privileges, and must still find its files.
  await chmod(directory, 0o777);
  const port = await freePort();
  const child = spawn(program, await prepare(directory, port), { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr!.on('data', (chunk) => (stderr += chunk));
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const insist = setTimeout(() => child.kill('SIGKILL'), 3000);
    await ended;
    clearTimeout(insist);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await accepting(port, child);
  } catch (error) {
    await stop();
    throw new Error(`${name} did not start: ${stderr}`, { cause: error });
  }
  return {
    port,
    directory,
    read: (file) => readFile(join(directory, file), 'utf8'),
    [Symbol.asyncDispose]: stop,
  };
}

/** Resolves once the port takes connections. */
async function accepting(port: number, child: ChildProcess): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (child.exitCode !== null) throw new Error(`exit code ${child.exitCode}`);
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('nobody listens after 10 s');
}

/** nginx with one `location /name/` for each of `limits`, under a `limit_req` of its own, per client address. */
export function startNginx(limits: Readonly<Record<string, { rate: string; options?: string }>>): Promise<RealServer> {
  return start('nginx', async (directory, port) => {
    const entries = Object.entries(limits);
    for (const [name] of entries) {
      await mkdir(join(directory, name));
      await writeFile(join(directory, name, 'page'), 'hello from nginx\n');
    }
    const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
    await writeFile(
      join(directory, 'nginx.conf'),
      `${asRoot ? 'user root;' : ''}
      worker_processes 1;
      daemon off;
      pid ${directory}/nginx.pid;
      error_log ${directory}/error.log notice;
      events { worker_connections 512; }
      http {
        access_log ${directory}/access.log;
        ${temp.map((kind) => `${kind}_temp_path ${directory}/${kind};`).join('\n')}
        ${entries.map(([name, { rate }]) => `limit_req_zone $binary_remote_addr zone=${name}:1m rate=${rate};`).join('\n')}
        server {
          listen 127.0.0.1:${port};
          root ${directory};
          ${entries.map(([name, { options = '' }]) => `location /${name}/ { limit_req zone=${name} ${options}; }`).join('\n')}
        }
      }`,
    );
    return ['-p', directory, '-e', join(directory, 'error.log'), '-c', join(directory, 'nginx.conf')];
  });
}

/** squid as a forward proxy: users whose name begins with `user`, password `pass`; CONNECT to anywhere but `deniedPort`. */
export function startSquid(deniedPort: number): Promise<RealServer> {
  return start('squid', async (directory, port) => {
    const authenticator = join(directory, 'auth.sh');
    await writeFile(
      authenticator,
      '#!/bin/sh\nwhile read -r user pass; do case "$user:$pass" in user*:pass) echo OK ;; *) echo ERR ;; esac; done\n',
    );
    await chmod(authenticator, 0o755);
    await writeFile(
      join(directory, 'squid.conf'),
      `http_port 127.0.0.1:${port}
visible_hostname paceline.test
pid_filename ${directory}/squid.pid
access_log stdio:${directory}/access.log
cache_log ${directory}/cache.log
cache_store_log none
coredump_dir ${directory}
cache deny all
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
auth_param basic program ${authenticator}
auth_param basic children 2
auth_param basic realm paceline
acl users proxy_auth REQUIRED
acl denied port ${deniedPort}
http_access deny denied
http_access allow users
http_access deny all
`,
    );
    return ['-N', '-f', join(directory, 'squid.conf')];
  });
}
