//! Requests about a softphone's receiver and buttons.

use super::{Aes, CstaError};
use crate::switch::Switch;
use crate::time::Time;
use crate::wire::{Element, Node, csta};

/// The buttons behind the ten digits (a guess of ours; no source names them).
const STAR: &str = "10";
const POUND: &str = "11";

impl Aes {
    pub(super) fn set_hookswitch(
        &self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.registered(switch, session, request)?;
        let on = request.flag("hookswitchOnhook");
        let on = on.ok_or(CstaError::Operation("invalidParameterValue"))?;
        switch.set_hookswitch(now, &device.extension, !on)?;
        Ok(csta("SetHookswitchStatusResponse"))
    }

    pub(super) fn press_button(
        &self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.registered(switch, session, request)?;
        let digit = match request.text_at(&["button"]) {
            STAR => Some('*'),
            POUND => Some('#'),
            digit => digit.parse().ok().filter(char::is_ascii_digit),
        };
        let digit = digit.ok_or(CstaError::Operation("invalidParameterValue"))?;
        switch.press(now, &device.extension, digit)?;
        Ok(csta("ButtonPressResponse"))
    }
}
