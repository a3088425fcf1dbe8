-- What is known of each recording of all sites: one row each, also of deleted ones, so that a node that was away
-- does not bring them back. People read the view astlogger.recording.
CREATE TABLE astlogger.database (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- The last of these files that was applied.
    version integer NOT NULL,
    -- Another value has every node send everything again.
    identity uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO astlogger.database (version) VALUES (0);

CREATE TABLE astlogger.entry (
    recordingid uuid PRIMARY KEY,
    -- Counts the changes of this row: whoever writes it says which one he has read.
    change bigint NOT NULL,
    -- Whose it is (al_site), and the node that wrote this row last.
    site text NOT NULL,
    toldby integer NOT NULL,
    toldat timestamptz NOT NULL DEFAULT now(),
    -- Of a deleted recording nothing else is left.
    deletedat timestamptz,
    deletedby text,
    deletionreason text,
    revision bigint,
    node integer,
    copy integer,
    started timestamptz,
    ended timestamptz,
    durationms bigint,
    extension text,
    agentid text,
    calling text,
    called text,
    -- The numbers as the filter party compares them: letters and digits alone.
    callingkey text,
    calledkey text,
    direction text,
    trunkgroup text,
    vdn text,
    split text,
    -- The call's UCID and those it had before a merge.
    ucids text[],
    tags text[],
    hold boolean,
    complete boolean,
    lacksaudio boolean,
    -- All words in which `text` is looked for, in small letters, one a line.
    words text,
    -- The whole record. U+0000, which jsonb refuses, is U+001A and "0" there; U+001A is U+001A and "1".
    record jsonb,
    CHECK ((deletedat IS NULL) = (record IS NOT NULL)),
    CHECK (record IS NULL OR (started IS NOT NULL AND ended IS NOT NULL AND extension IS NOT NULL))
);

-- Values of any length may come from a switch, and an index takes some 2,700 bytes: hence left().
CREATE INDEX entry_started ON astlogger.entry (started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_extension ON astlogger.entry (left(extension, 64), started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_agentid ON astlogger.entry (left(agentid, 64), started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_callingkey ON astlogger.entry (left(callingkey, 64), started) WHERE deletedat IS NULL;
CREATE INDEX entry_calledkey ON astlogger.entry (left(calledkey, 64), started) WHERE deletedat IS NULL;
CREATE INDEX entry_trunkgroup ON astlogger.entry (left(trunkgroup, 64), started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_vdn ON astlogger.entry (left(vdn, 64), started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_split ON astlogger.entry (left(split, 64), started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_durationms ON astlogger.entry (durationms) WHERE deletedat IS NULL;
CREATE INDEX entry_lacksaudio ON astlogger.entry (started, recordingid) WHERE lacksaudio AND deletedat IS NULL;
CREATE INDEX entry_direction ON astlogger.entry (direction, started, recordingid) WHERE deletedat IS NULL;
CREATE INDEX entry_ucids ON astlogger.entry USING gin (ucids) WHERE deletedat IS NULL;
CREATE INDEX entry_tags ON astlogger.entry USING gin (tags) WHERE deletedat IS NULL;

CREATE VIEW astlogger.recording AS
    SELECT recordingid, site, node, copy, revision, started, ended, durationms, extension, agentid, calling, called,
        callingkey, calledkey, direction, trunkgroup, vdn, split, ucids, tags, hold, complete, lacksaudio, words, record,
        toldby, toldat
    FROM astlogger.entry WHERE deletedat IS NULL;
