//! Asks the AES: does it answer, is it who it says, does it take the login, does it know the switch.

use recorder::login_probe::{LoginError, login};
use recorder_core::dmcc::{CstaError, ErrorCategory};

use super::{AES, Finding};
use crate::config::{Aes, Config};
use crate::wiring::{aes_endpoint, link_config};

/// Logs in at the AES as the recorder would, and out again.
pub async fn aes_login(config: &Config) -> Finding {
    let Some(recorder) = &config.recorder else {
        return Finding::ok(AES, "a witness has none");
    };
    let aes = &recorder.aes;
    let endpoint = match aes_endpoint(aes) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let remedy = "name a file with the certificate of the AES's issuer, in PEM form";
            return Finding::fail(AES, error.to_string(), remedy).of("al_aesca");
        }
    };
    let over = if aes.tls { "TLS" } else { "TCP" };
    let link = link_config(config, recorder);
    // Whichever: the name of a number says nothing of the number itself.
    let Some(number) = link.phantoms.first().map(|phantom| phantom.extension.clone()) else {
        return Finding::fail(AES, "there is no phantom", "name some").of("al_phantoms");
    };
    match login(endpoint, &link, &number).await {
        Ok(()) => Finding::ok(AES, format!("{} takes the login over {over}", aes.place)),
        Err(LoginError::NoName(error)) => no_name(aes, &error),
        Err(LoginError::Connect(error)) => {
            let found = format!("{} does not answer over {over}: {error}", aes.place);
            let (key, remedy) = connect_remedy(&error);
            Finding::fail(AES, found, remedy).of(key)
        }
        Err(error @ LoginError::Refused(_)) => {
            let remedy = "compare al_aesuser and al_aespassword with the CTI user on the AES";
            Finding::fail(AES, error.to_string(), remedy).of("al_aespassword")
        }
        Err(error @ LoginError::NoSession(_)) => {
            let remedy = "look at the AES: sessions, licences, DMCC service";
            Finding::fail(AES, error.to_string(), remedy).of("al_aeshost")
        }
        Err(error @ LoginError::NoAnswer) => {
            let remedy = format!("does DMCC listen on port {}?", aes.place.port);
            Finding::fail(AES, error.to_string(), remedy).of("al_aesport")
        }
    }
}

/// It takes the login, and gives no name for a number at the switch. That something asked for does not exist it says by the
/// category `operation`; which value of it is meant, no document says (dossier 6.9).
fn no_name(aes: &Aes, error: &CstaError) -> Finding {
    let found = format!(
        "{} takes the login, and names no device of switch connection {:?}: {error}",
        aes.place, aes.switchname
    );
    let remedy = "write the name that the switch connection has on the AES (Communication Manager Interface, Switch \
                  Connections) into al_switchname";
    if error.category == ErrorCategory::Operation {
        return Finding::fail(AES, found, remedy).of("al_switchname");
    }
    Finding::warn(AES, found, "look at the AES: DMCC service, licences").of("al_switchname")
}

/// Which parameter is to blame that no connection to the AES comes about, and what to do.
#[must_use]
pub fn connect_remedy(error: &std::io::Error) -> (&'static str, &'static str) {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    let tls = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(
            NotValidForName | NotValidForNameContext { .. },
        )) => (
            "al_aesservername",
            "write the name that stands in the certificate into al_aesservername",
        ),
        Some(rustls::Error::InvalidCertificate(_)) => (
            "al_aesca",
            "al_aesca must name a file with the certificate of the authority that issued the \
             AES's, and that must be valid now",
        ),
        Some(_) => ("al_aestls", "does the port speak TLS? look at al_aesport and al_aestls"),
        None => (
            "al_aeshost",
            "are al_aeshost and al_aesport right, is DMCC on at the AES, is a firewall between?",
        ),
    }
}
