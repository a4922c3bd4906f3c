import { generate } from 'selfsigned';

/** A key with its certificate, and the certificate once more as the authority to trust. PEM. */
export interface TestCert {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

let made: Promise<TestCert> | undefined;

/** A self-signed certificate for localhost, 127.0.0.1, ::1, shop.test and *.test; made once per process. */
export function testCert(): Promise<TestCert> {
  made ??= make();
  return made;
}

async function make(): Promise<TestCert> {
  const yesterday = new Date(Date.now() - 86_400_000);
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: yesterday,
    extensions: [
      { name: 'basicConstraints', cA: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 2, value: 'shop.test' },
          { type: 2, value: '*.test' },
          { type: 7, ip: '127.0.0.1' },
          { type: 7, ip: '::1' },
        ],
      },
    ],
  });
  return { key: pems.private, cert: pems.cert, ca: pems.cert };
}
