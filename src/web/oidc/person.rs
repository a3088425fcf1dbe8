//! Who somebody is here, by what the provider says of him. Pure.

use serde_json::{Map, Value};
use storage_core::Extension;

use crate::config::Oidc;
use crate::users::{User, Users, check_extension, check_name};
use crate::web::backend::By;
use crate::web::session::Identity;

/// Why somebody whom the provider knows is nobody here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nobody {
    #[error(
        "the provider knows you, but none of your groups there has a role here (`al_oidcroles`)"
    )]
    NoRole,
    #[error(
        "the provider does not tell your groups: it must put `{0}` (`al_oidcrolesclaim`) into the ID token"
    )]
    NoGroups(String),
    #[error(
        "the provider tells no name that can be a user's: `{0}` (`al_oidcnameclaim`) must be 1 to 64 bytes without spaces"
    )]
    NoName(String),
    #[error(
        "a user of your name is in the users file; sign in with his password, or have him removed there"
    )]
    LocalUser,
    #[error("the provider tells no extension that can be dialled: `{0}` (`al_oidcextensionclaim`)")]
    BadExtension(String),
}

/// The name that the provider gives him, good or not.
pub(super) fn name<'a>(claims: &'a Map<String, Value>, oidc: &Oidc) -> Option<&'a str> {
    claims.get(&oidc.name_claim).and_then(Value::as_str)
}

/// Who he is.
///
/// # Errors
/// Why he is nobody.
pub(super) fn identity(
    claims: &Map<String, Value>,
    oidc: &Oidc,
    users: &Users,
) -> Result<Identity, Nobody> {
    let name = name(claims, oidc).filter(|name| check_name(name).is_ok());
    let name = name.ok_or_else(|| Nobody::NoName(oidc.name_claim.clone()))?;
    let groups = groups(claims, &oidc.roles_claim)
        .ok_or_else(|| Nobody::NoGroups(oidc.roles_claim.join(".")))?;
    let has = |value: &str| groups.contains(&value);
    let of = oidc.roles.iter().find(|of| has(&of.value)).ok_or(Nobody::NoRole)?;
    // Two people of one name could not be told apart in the audit log.
    if users.find(name).map(|user: &User| &user.name).is_some() {
        return Err(Nobody::LocalUser);
    }
    let extension = match &oidc.extension_claim {
        Some(claim) => extension(claims, claim)?,
        None => None,
    };
    let by = By { user: name.to_owned(), role: of.role, extension };
    let scope = users.scope_of(of.team.as_deref());
    Ok(Identity { by, team: of.team.clone(), scope, local: None })
}

/// The groups that the claim names: a list of texts, or one text.
fn groups<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<Vec<&'a str>> {
    let (first, rest) = path.split_first()?;
    let found = rest.iter().try_fold(claims.get(first)?, |value, step| value.get(step))?;
    match found {
        Value::String(one) => Some(vec![one]),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// The station of whoever has one.
fn extension(claims: &Map<String, Value>, claim: &str) -> Result<Option<Extension>, Nobody> {
    let text = match claims.get(claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let extension = Extension::from(text.as_str());
    match check_extension(&extension) {
        Ok(()) => Ok(Some(extension)),
        Err(_) => Err(Nobody::BadExtension(claim.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Config, Source};
    use crate::users::UserRole;

    fn oidc(lines: &str) -> Oidc {
        let text = format!(
            "al_nodeid = 3\nal_serverrole = \"witness\"\n\
             al_peers = [\"1=127.0.0.1:7401\", \"2=127.0.0.1:7402\", \"3=127.0.0.1:7403\"]\n\
             al_oidcissuer = \"https://login.example.org/realm\"\nal_oidcclientid = \"recorder\"\n\
             al_oidcroles = [\"cn=admins,dc=x=admin\", \"billing=supervisor/billing\", \"qa=qa\", \
             \"staff=agent\"]\n{lines}\n"
        );
        Config::parse(&Source { text, ..Source::default() }).unwrap().web.oidc.unwrap()
    }

    fn who(lines: &str, claims: Value) -> Result<Identity, Nobody> {
        let Value::Object(claims) = claims else { panic!("an object") };
        identity(&claims, &oidc(lines), &Users::default())
    }

    #[test]
    fn the_first_group_that_has_a_role_decides() {
        let person = |groups: Value| {
            who("", json!({ "preferred_username": "anna", "groups": groups })).map(|who| {
                assert_eq!((who.by.user.as_str(), &who.local), ("anna", &None));
                (who.by.role, who.team)
            })
        };
        assert_eq!(person(json!(["x", "qa"])), Ok((UserRole::Qa, None)));
        assert_eq!(person(json!(["qa", "cn=admins,dc=x"])), Ok((UserRole::Admin, None)));
        let billing = Ok((UserRole::Supervisor, Some("billing".to_owned())));
        assert_eq!(person(json!(["qa", "billing"])), billing);
        assert_eq!(person(json!("staff")), Ok((UserRole::Agent, None)));
        for nothing in [json!([]), json!(["QA"]), json!(["qa "]), json!(""), json!([7])] {
            assert_eq!(person(nothing.clone()), Err(Nobody::NoRole), "{nothing}");
        }
        for untold in [json!(7), Value::Null, json!({ "qa": true })] {
            assert_eq!(person(untold), Err(Nobody::NoGroups("groups".to_owned())));
        }
    }

    #[test]
    fn whose_team_the_users_file_does_not_have_sees_nothing() {
        let claims = json!({ "preferred_username": "b", "groups": ["billing"] });
        let scope = who("", claims).unwrap().scope;
        assert!(!scope.is_all() && !scope.has("2611"));
    }

    #[test]
    fn claims_are_found_where_the_configuration_says() {
        let lines = "al_oidcrolesclaim = \"realm_access.roles\"\nal_oidcnameclaim = \"email\"\n\
                     al_oidcextensionclaim = \"phone\"";
        let claims = |phone: Value, name: &str| json!({ "email": name, "realm_access": { "roles": ["staff"] }, "phone": phone });
        let anna = who(lines, claims(json!("2611"), "anna@x")).unwrap();
        assert_eq!(anna.by.extension, Some(Extension::from("2611")));
        assert_eq!(who(lines, claims(json!(2611), "a")).unwrap().by.extension, anna.by.extension);
        assert_eq!(who(lines, claims(Value::Null, "a")).unwrap().by.extension, None);
        let bad = Nobody::BadExtension("phone".to_owned());
        assert_eq!(who(lines, claims(json!("26<11"), "a")).unwrap_err(), bad);
        for name in ["", "a b", "a\nb", &"x".repeat(65)] {
            let refused = who(lines, claims(Value::Null, name)).unwrap_err();
            assert_eq!(refused, Nobody::NoName("email".to_owned()), "{name:?}");
        }
    }
}
