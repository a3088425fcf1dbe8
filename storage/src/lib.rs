//! What must last: the capture journal while calls go on, voice files and their records after, the
//! index by which they are found. Decisions about bytes, names and queries are in `storage-core`;
//! here they meet a disk.

mod block_list;
pub mod call_log;
pub mod catalog;
mod catalog_keys;
pub mod catalog_sled;
mod cipher_read;
pub mod copy;
pub mod decrypt;
pub mod disk;
pub mod fetch;
mod file_out;
mod journal_cipher;
mod journal_clean;
mod journal_error;
pub mod journal_file;
mod journal_index;
mod journal_open;
mod journal_outline;
pub mod journal_read;
mod journal_reserve;
mod journal_sync;
pub mod key_survey;
pub mod keys;
pub mod lock;
pub mod reindex;
pub mod rewrap;
pub mod scratch;
pub mod staging;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verify;
mod verify_pair;
pub mod voice_file;
mod voice_out;
pub mod voice_store;
pub mod wav;

pub use call_log::{CallLog, CallLogError, CallsRead};
pub use catalog::{Catalog, CatalogError, MemoryCatalog, Page};
pub use catalog_sled::{CatalogState, SledCatalog};
pub use cipher_read::CipherDamage;
pub use copy::{CopyError, CopyWriter, Lies};
pub use fetch::{Fetch, FetchError, FetchFormat};
pub use journal_clean::Maintained;
pub use journal_error::JournalError;
pub use journal_file::{Journal, JournalOptions};
pub use journal_open::Recovered;
pub use journal_outline::{Outline, SegmentOutline};
pub use journal_read::{JournalReader, ReadStats};
pub use journal_sync::SyncHandle;
pub use keys::{KeyError, KeyFileError, Keys};
pub use staging::{Staged, Unfinished};
pub use voice_file::{EncodedWriter, FinishedVoice, VoiceError, VoiceForm, VoiceWriter};
pub use voice_store::VoiceStore;
