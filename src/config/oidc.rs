//! Signing in by OpenID Connect: where the provider is, what this node is to it, and which of its words for people
//! are which of our roles. Whether it answers, and whether what it says is true, is `web::oidc`'s matter.

use std::path::PathBuf;
use std::time::Duration;

use recorder_core::dmcc::Secret;

use super::reader::Reader;
use super::value::{self, HttpUrl, Reason};
use crate::users::UserRole;

/// The keys that [`read`] reads beside `al_oidcissuer`, which alone switches it on.
const OTHERS: [&str; 12] = [
    "al_oidcname",
    "al_oidcclientid",
    "al_oidcclientsecret",
    "al_oidcclientsecretfile",
    "al_oidcscopes",
    "al_oidcrolesclaim",
    "al_oidcroles",
    "al_oidcnameclaim",
    "al_oidcextensionclaim",
    "al_oidcredirect",
    "al_oidcca",
    "al_oidcrecheckmin",
];
/// Minutes between two questions after somebody; at the most, and unless said otherwise.
const RECHECK_MAX: u64 = 60;
const RECHECK: u64 = 5;

/// A provider of OpenID Connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// `al_oidcissuer`, to the letter: it stands so in what the provider signs.
    pub issuer: String,
    /// Where its description is found.
    pub discovery: HttpUrl,
    /// `al_oidcname`: what people call it; else its host.
    pub name: String,
    /// `al_oidcclientid`: what this group of recorders is called there.
    pub client_id: String,
    /// `al_oidcclientsecret`; absent: a public client.
    pub client_secret: Option<Secret>,
    /// `al_oidcscopes`: what is asked for.
    pub scopes: Vec<String>,
    /// `al_oidcrolesclaim`: where a person's groups are told, a step a word.
    pub roles_claim: Vec<String>,
    /// `al_oidcroles`: the first that a person has decides.
    pub roles: Vec<RoleOf>,
    /// `al_oidcnameclaim`: what somebody is called here.
    pub name_claim: String,
    /// `al_oidcextensionclaim`: the station of whoever has one.
    pub extension_claim: Option<String>,
    /// `al_oidcredirect`: where browsers come back to; absent: where they came from.
    pub redirect: Option<String>,
    /// `al_oidcca`: whose certificates are taken; absent: the system's.
    pub ca: Option<PathBuf>,
    /// `al_oidcrecheckmin`: so often the provider is asked whether it still vouches for somebody; absent: never.
    pub recheck: Option<Duration>,
}

/// A group of the provider, and what its people are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleOf {
    /// As the provider writes it.
    pub value: String,
    /// What they are.
    pub role: UserRole,
    /// The team whose recordings and calls are all they see.
    pub team: Option<String>,
}

pub(super) fn read(reader: &mut Reader) -> Option<Oidc> {
    let issuer = reader.parsed(
        "al_oidcissuer",
        |text| issuer_url(text).map(|url| (text.to_owned(), url)),
        "write al_oidcissuer = \"https://login.example.org/realms/main\"",
    );
    let client_id = reader.text("al_oidcclientid");
    let client_secret = reader.secret("al_oidcclientsecret", "al_oidcclientsecretfile");
    let roles = read_roles(reader);
    let scopes = reader.list("al_oidcscopes");
    let roles_claim = reader.text("al_oidcrolesclaim").unwrap_or_else(|| "groups".to_owned());
    let name_claim = reader.text("al_oidcnameclaim");
    let extension_claim = reader.text("al_oidcextensionclaim");
    let name = reader.text("al_oidcname");
    let redirect = reader.parsed(
        "al_oidcredirect",
        callback_url,
        "write al_oidcredirect = \"https://recorder.example.org/api/oidc/callback\"",
    );
    let ca = reader.path("al_oidcca");
    let recheck = reader.number("al_oidcrecheckmin", 0..=RECHECK_MAX).unwrap_or(RECHECK);
    if !reader.has("al_oidcissuer") {
        let given: Vec<_> = OTHERS.into_iter().filter(|key| reader.has(key)).collect();
        if let Some(first) = given.first() {
            let wrong = "is given, and al_oidcissuer is not";
            reader.refuse(first, wrong, "name the provider in al_oidcissuer, or leave it out");
        }
        return None;
    }
    for key in ["al_oidcclientid", "al_oidcroles"] {
        if !reader.has(key) {
            let remedy = "say what this is called there, and which of its groups has which role";
            reader.refuse(key, "is missing beside al_oidcissuer", remedy);
        }
    }
    let (issuer, discovery) = issuer?;
    let mut scopes = scopes.unwrap_or_else(|| vec!["profile".to_owned()]);
    scopes.retain(|scope| scope != "openid");
    scopes.insert(0, "openid".to_owned());
    Some(Oidc {
        name: name.unwrap_or_else(|| discovery.place.host.clone()),
        issuer,
        discovery,
        client_id: client_id?,
        client_secret,
        scopes,
        roles_claim: roles_claim.split('.').map(str::to_owned).collect(),
        roles: roles?,
        name_claim: name_claim.unwrap_or_else(|| "preferred_username".to_owned()),
        extension_claim,
        redirect,
        ca,
        recheck: (recheck > 0).then(|| Duration::from_secs(recheck * 60)),
    })
}

/// Where the description of the issuer is (OpenID Connect Discovery 1.0, section 4).
fn issuer_url(text: &str) -> Result<HttpUrl, Reason> {
    let mut url = value::http_url(text)?;
    if !url.is_private() {
        return Err("an address that begins with https://".to_owned());
    }
    if url.path.contains('?') {
        return Err("an address without '?'".to_owned());
    }
    url.path = format!("{}/.well-known/openid-configuration", url.path.trim_end_matches('/'));
    Ok(url)
}

fn callback_url(text: &str) -> Result<String, Reason> {
    let url = value::http_url(text)?;
    if url.path == "/api/oidc/callback" {
        return Ok(text.to_owned());
    }
    Err("an address of this node or group that ends with /api/oidc/callback".to_owned())
}

fn read_roles(reader: &mut Reader) -> Option<Vec<RoleOf>> {
    let mut roles = Vec::new();
    for entry in reader.list("al_oidcroles")? {
        match role_of(&entry) {
            Ok(role) => roles.push(role),
            Err(must_be) => {
                let remedy = format!("look at \"{entry}\"");
                reader.refuse_value("al_oidcroles", &must_be, &remedy);
                return None;
            }
        }
    }
    if roles.is_empty() {
        let remedy = "write al_oidcroles = [\"recorder-admins=admin\"]";
        reader.refuse_value("al_oidcroles", "a list that is not empty", remedy);
        return None;
    }
    Some(roles)
}

/// `GROUP=ROLE` or `GROUP=ROLE/TEAM`; the group may have `=` in it, as the names of LDAP have.
fn role_of(entry: &str) -> Result<RoleOf, Reason> {
    let must_be = || "a list of GROUP=ROLE or GROUP=ROLE/TEAM".to_owned();
    let (value, role) = entry.rsplit_once('=').ok_or_else(must_be)?;
    let (role, team) = match role.split_once('/') {
        Some((role, team)) => (role, Some(team.trim().to_owned())),
        None => (role, None),
    };
    if value.trim().is_empty() || team.as_ref().is_some_and(String::is_empty) {
        return Err(must_be());
    }
    let role = role.trim().parse().map_err(|error| format!("{}: {error}", must_be()))?;
    Ok(RoleOf { value: value.trim().to_owned(), role, team })
}
