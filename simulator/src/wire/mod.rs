//! The simulator's own wire code: frames and XML of DMCC, written from the protocol description.
//!
//! It shares nothing with the recorder, so that one misreading cannot agree with itself.

pub mod frame;
pub mod read;
pub mod write;

pub use frame::{Frame, FrameError, Framer};
pub use read::{Element, XmlError};
pub use write::{Node, Ns, Style, app, av, csta};
