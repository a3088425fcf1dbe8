-- Legal holds, for the filter hold: few recordings are held, and they are to be found among all others at once.
CREATE INDEX entry_hold ON astlogger.entry (started, recordingid) WHERE hold AND deletedat IS NULL;
