// A provider of OpenID Connect for the tests: oidc-provider, a certified one, over TLS, with people who are made up. Whoever is asked for is
// signed in without a password: /interaction/UID?as=NAME. What no honest provider does is done at /control?KEY=VALUE.
//
// node provider.mjs FOLDER-OF-MODULES PORT CERTIFICATE KEY CALLBACK

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import https from "node:https";
import { pathToFileURL } from "node:url";

const [folder, port, certificate, key, callback] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/`));
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { default: Provider } = await load("oidc-provider");
const { generateKeyPair, exportJWK, SignJWT, UnsecuredJWT, decodeJwt, importJWK } = await load("jose");

const issuer = `https://localhost:${port}`;
const people = {
  anna: { preferred_username: "anna.o", groups: ["staff", "recorder-qa"] },
  bert: { preferred_username: "bert.o", groups: ["recorder-billing"] },
  nobody: { preferred_username: "nobody.o", groups: ["staff"] },
  double: { preferred_username: "quentin", groups: ["recorder-qa"] },
};
/** What the next tokens are to be like, and whether anything is answered; `away` names what is answered with 503. */
let bent = {};

async function newKey() {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  return { ...(await exportJWK(privateKey)), use: "sig", alg: "RS256", kid: `k${Date.now()}` };
}

let jwk;
let provider;

/** With new keys; what was given out before is forgotten. */
async function renew() {
  jwk = await newKey();
  provider = new Provider(issuer, {
    clients: [{
      client_id: "recorder", client_secret: "s3cret with blanks", redirect_uris: [callback],
      grant_types: ["authorization_code", "refresh_token"], response_types: ["code"],
    }],
    jwks: { keys: [jwk] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ["only for tests"] },
    // Each is good once; whoever brings one again loses all.
    issueRefreshToken: () => !bent.once,
    rotateRefreshToken: () => true,
    findAccount: (_, id) => (id in people ? { accountId: id, claims: () => ({ sub: id, ...people[id] }) } : undefined),
  });
  provider.use(async (context, next) => {
    await next();
    if (context.oidc?.route === "token" && context.body?.id_token) {
      context.body.id_token = await bend(context.body.id_token);
    }
  });
}

/** The token, as `bent` says. */
async function bend(token) {
  if (bent.alg === "none") {
    return new UnsecuredJWT(decodeJwt(token)).encode();
  }
  const claims = { ...decodeJwt(token), ...(bent.claims ?? {}) };
  if (bent.alg === "HS256") {
    const shared = new TextEncoder().encode("s3cret with blanks");
    return new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: jwk.kid }).sign(shared);
  }
  const own = bent.key === "other" ? await newKey() : jwk;
  const header = { alg: "RS256", kid: jwk.kid };
  return new SignJWT(claims).setProtectedHeader(header).sign(await importJWK(own, "RS256"));
}

async function interaction(request, response, who) {
  if (who === "refuse") {
    await provider.interactionFinished(request, response, { error: "access_denied", error_description: "not <b>today</b>" });
    return;
  }
  const { params } = await provider.interactionDetails(request, response);
  const grant = new provider.Grant({ accountId: who, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId: who }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

async function serve(request, response) {
  const url = new URL(request.url, issuer);
  if (url.pathname === "/control") {
    bent = JSON.parse(url.searchParams.get("bent") ?? "{}");
    if (url.searchParams.has("renew")) {
      await renew();
    }
    for (const [name, person] of Object.entries(JSON.parse(url.searchParams.get("people") ?? "{}"))) {
      if (person === null) {
        delete people[name];
      } else {
        people[name] = person;
      }
    }
    response.end("done");
  } else if (bent.hangs) {
    // No answer, ever.
  } else if (bent.away) {
    response.statusCode = 503;
    response.end(JSON.stringify({ error: "invalid_grant_is_not_said_here" }));
  } else if (url.pathname.startsWith("/interaction/")) {
    await interaction(request, response, url.searchParams.get("as"));
  } else {
    provider.callback()(request, response);
  }
}

await renew();
https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    response.statusCode = 500;
    response.end(String(error));
  });
}).listen(Number(port), "127.0.0.1", () => console.log("ready"));
