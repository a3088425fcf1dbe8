//! Asks the AES: does it answer, is it who it says, does it take the login.

use recorder::login_probe::{LoginError, login};

use super::{AES, Finding};
use crate::config::Config;
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
    match login(endpoint, &link_config(config, recorder)).await {
        Ok(()) => Finding::ok(AES, format!("{} takes the login over {over}", aes.place)),
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
