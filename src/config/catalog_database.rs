//! The settings of the catalog's database, which the nodes of many sites share: where it is, what this site is called
//! there, and whether people's searches go to it.

use super::reader::Reader;
use crate::catalog_database::{Address, CatalogDatabase, Place, SslMode};

/// The keys that say something only beside `al_catalogurl`.
const OTHERS: [&str; 5] =
    ["al_catalogpassword", "al_catalogpasswordfile", "al_catalogca", "al_catalogsearch", "al_site"];
/// Longest name of a site, characters.
const SITE_CHARS_MAX: usize = 64;

pub(super) fn read(reader: &mut Reader) -> Option<CatalogDatabase> {
    let url = reader.secret("al_catalogurl", "al_catalogurlfile");
    let password = reader.secret("al_catalogpassword", "al_catalogpasswordfile");
    let ca = reader.path("al_catalogca");
    let searched = [("local", false), ("database", true)];
    let searched = reader.word("al_catalogsearch", &searched).unwrap_or(false);
    let site = reader.parsed("al_site", site, "write al_site = \"hongkong\"");
    let Some(url) = url else {
        let has_url = reader.has("al_catalogurl") || reader.has("al_catalogurlfile");
        if let Some(first) = OTHERS.into_iter().find(|key| !has_url && reader.has(key)) {
            let wrong = "is given, and al_catalogurl is not";
            reader.refuse(first, wrong, "name the database in al_catalogurl, or leave it out");
        }
        return None;
    };
    if !reader.has("al_site") {
        let remedy = "name this group's site, otherwise than all others that write there: al_site = \"hongkong\"";
        reader.refuse("al_site", "is missing beside al_catalogurl", remedy);
    }
    let address = match Address::parse(url.expose()) {
        Ok(address) => address,
        Err(error) => {
            let remedy = "write postgres://USER@HOST/DATABASE?sslmode=verify-full";
            reader.refuse("al_catalogurl", error.to_string(), remedy);
            return None;
        }
    };
    if address.has_password() && password.is_some() {
        let wrong = "is given beside a password in al_catalogurl";
        reader.refuse("al_catalogpassword", wrong, "keep one of the two");
    }
    if ca.is_some() && matches!(address.mode(), SslMode::Disable) {
        let wrong = "is given, and al_catalogurl asks for no TLS";
        reader.refuse("al_catalogca", wrong, "leave it out, or write sslmode=verify-full");
    }
    let address = match &password {
        Some(password) => address.with_password(password),
        None => address,
    };
    Some(CatalogDatabase { place: Place { address, ca }, site: site?, searched })
}

fn site(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|letter| !letter.is_control());
    if plain && text.chars().count() <= SITE_CHARS_MAX {
        Ok(text.to_owned())
    } else {
        Err(format!("at most {SITE_CHARS_MAX} characters, none of them a control character"))
    }
}
