//! Enters what people write about a recording into its record on the disk: the pair of record and voice
//! file tells it all, also to somebody who has nothing else. The voice file is not touched, and the
//! record is the old one or the new one whenever the power fails. What is written is not decided here.

use std::io;

use storage_core::marks::Marks;
use storage_core::{Recording, naming};

use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;

impl VoiceStore {
    /// Merges what is written about a recording into the records of it that lie here. Tells whether
    /// there is any; durable when this returns. That it is still being sealed, or is a copy that is on
    /// its way, is no error: it is merged again when that is published.
    ///
    /// # Errors
    /// [`VoiceError`]; it may be tried again.
    pub fn mark(&self, known: &Recording) -> Result<bool, VoiceError> {
        let marks = Marks::of(known);
        let _alone = self.alone(known.recordingid);
        let mut lies = false;
        for day in self.days_of(known)? {
            let mut record = match self
                .read_record(&day.join(naming::record_name(known.recordingid)))
            {
                Err(VoiceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                read => read?,
            };
            lies = true;
            if !marks.merge_into(&mut record) {
                continue;
            }
            let written = self.path(naming::sealing_marks_file(record.recordingid));
            self.write_record(&written, &record)?;
            self.rename(&written, &self.record_path(&record))?;
            self.sync_folder(&self.path(naming::day_folder(record.started)))?;
        }
        Ok(lies)
    }
}
