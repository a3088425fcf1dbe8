//! A simulated Avaya switch behind simulated AES servers: one Communication Manager with stations,
//! agents, trunks, VDNs and skills, any number of AES speaking DMCC over TCP or TLS, and real RTP
//! whose every frame says which call it is of (`tone`). It shares no code with the recorder.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let site = simulator::Site::start(simulator::SiteConfig::demo(10, 2)).await?;
//! println!("AES 0 at {}, user recuser, password Secret1!", site.aes_address(0));
//! let people = site.switch();
//! let call = people.inbound_call("5551230001", "50100")?;
//! people.answer("31001")?;
//! site.faults().cut_aes(0, std::time::Duration::from_secs(5));
//! people.hangup_outside(call)?;
//! for over in site.history() {
//!     println!("{} {} frames, {:?}", over.ucid, over.frames, over.streams);
//! }
//! site.stop().await;
//! # Ok(()) }
//! ```
//!
//! The layers, each knowing only those before it:
//!
//! | module | what it is | pure |
//! |---|---|---|
//! | `switch` | the model of the switch | yes |
//! | `wire` | frames and XML | yes |
//! | `aes` | one AES: messages and switch events in, messages out | yes |
//! | `media` | who hears what, RTP packets, the sending thread | all but the thread |
//! | `world` | switch, AES and media plan together | yes |
//! | `link`, `server` | sockets, clock, locks | no |
//! | `handle`, `faults`, `view`, `traffic` | what tests and the demonstration call | no |

pub mod aes;
pub mod clock;
pub mod config;
mod control;
pub mod faults;
mod g711;
pub mod handle;
mod link;
pub mod media;
mod rng;
mod secret;
mod server;
pub mod switch;
pub mod time;
mod tls;
pub mod tone;
pub mod traffic;
pub mod view;
pub mod wire;
mod world;

pub use config::{AesConfig, SiteConfig, Switches, TlsConfig};
pub use faults::FaultHandle;
pub use handle::{CallRef, SwitchHandle};
pub use link::WireFaults;
pub use media::{KeyText, RtpFaults, SentFrame, StreamRecord, base64_text};
pub use secret::Secret;
pub use server::{Site, StartError};
pub use switch::{AgentState, ConnectionState, Direction, Refusal};
pub use tls::TlsError;
pub use traffic::{Kind, Mix, TrafficHandle, TrafficOutcome, TrafficPlan};
pub use view::{CallView, FinishedCall, PartyView};
