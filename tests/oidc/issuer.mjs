// An OpenID Connect issuer for the tests. Arguments: oidc-provider's main script, the issuer's address, and for HTTPS the
// files of its certificate and key. POST /control changes how it is (see `config`); `forge` makes it lie about ID tokens.
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { pathToFileURL } from 'node:url';

const [script, issuer, certificate, secret] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(script));
let config = { redirectUris: [], accounts: {}, idTokenSeconds: 3600, forge: null, down: false, refresh: true };
let number = 0;
let key = newKey();
let answer;
let asked = {};

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  number += 1;
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${number}`, use: 'sig', alg: 'RS256' };
}

function encode(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

// The same token with other claims and header fields, signed with `by`: own, other, public (HMAC with the public key) or none.
function forged(token, { claims = {}, header = {}, by = 'own' }) {
  const [head, body] = token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  const content = `${encode({ ...head, ...header })}.${encode({ ...body, ...claims })}`;
  const own = createPrivateKey({ key, format: 'jwk' });
  const signatures = {
    own: () => sign('sha256', Buffer.from(content), own),
    other: () => sign('sha256', Buffer.from(content), createPrivateKey({ key: newKey(), format: 'jwk' })),
    public: () => createHmac('sha256', createPublicKey(own).export({ format: 'pem', type: 'spki' })).update(content).digest(),
    none: () => Buffer.alloc(0),
  };
  return `${content}.${signatures[by]().toString('base64url')}`;
}

function start() {
  const client = {
    redirect_uris: config.redirectUris, grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  };
  const provider = new Provider(issuer, {
    clients: [
      { ...client, client_id: 'joblease', client_secret: 'a-client-secret', application_type: 'native' },
      { ...client, client_id: 'joblease-public', token_endpoint_auth_method: 'none', application_type: 'native' },
    ],
    jwks: { keys: [key] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username'], groups: ['groups'] },
    scopes: ['openid', 'offline_access'],
    conformIdTokenClaims: false,
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...config.accounts[sub] }) }),
    ttl: { IdToken: () => config.idTokenSeconds, AccessToken: 3600, Interaction: 600, Session: 3600, Grant: 3600, RefreshToken: 3600 },
    cookies: { keys: ['tests'] },
  });
  provider.use(async (context, next) => {
    await next();
    if (context.path === '/token' && config.forge && context.body?.id_token) {
      context.body = { ...context.body, id_token: forged(context.body.id_token, config.forge) };
    }
  });
  answer = provider.callback();
}

async function serve(request, response) {
  const path = request.url.split('?')[0];
  if (path === '/control') {
    let text = '';
    for await (const part of request) text += part;
    const { rotate, ...changes } = JSON.parse(text || '{}');
    config = { ...config, ...changes };
    if (rotate) key = newKey();
    if (rotate || changes.redirectUris) start(); // which forgets who is signed in
    response.end(JSON.stringify(asked));
    return;
  }
  asked[path] = (asked[path] ?? 0) + 1;
  if (config.down) {
    response.destroy();
    return;
  }
  if (path === '/token' && config.refresh === false) {
    response.writeHead(400, { 'content-type': 'application/json' }).end('{"error": "invalid_grant"}');
    return;
  }
  answer(request, response);
}

start();
const server = certificate
  ? createSecureServer({ cert: readFileSync(certificate), key: readFileSync(secret) }, serve)
  : createServer(serve);
server.listen(Number(new URL(issuer).port), new URL(issuer).hostname);
