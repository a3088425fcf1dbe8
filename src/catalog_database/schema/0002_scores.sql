-- Scores: by which scorecards a recording was judged, and the span of the percentages, for the filters scorecard,
-- minscore and maxscore. Rows that are there get them from their records.
ALTER TABLE astlogger.entry
    ADD COLUMN scorecards text[],
    ADD COLUMN bestscore double precision,
    ADD COLUMN worstscore double precision;

UPDATE astlogger.entry SET
    scorecards = ARRAY(SELECT DISTINCT score ->> 'scorecard' FROM jsonb_array_elements(record -> 'scores') score),
    bestscore = (SELECT max((score ->> 'percent')::double precision) FROM jsonb_array_elements(record -> 'scores') score),
    worstscore = (SELECT min((score ->> 'percent')::double precision) FROM jsonb_array_elements(record -> 'scores') score)
    WHERE record ? 'scores';

CREATE INDEX entry_scorecards ON astlogger.entry USING gin (scorecards) WHERE deletedat IS NULL;
CREATE INDEX entry_bestscore ON astlogger.entry (bestscore) WHERE deletedat IS NULL;
CREATE INDEX entry_worstscore ON astlogger.entry (worstscore) WHERE deletedat IS NULL;

CREATE OR REPLACE VIEW astlogger.recording AS
    SELECT recordingid, site, node, copy, revision, started, ended, durationms, extension, agentid, calling, called,
        callingkey, calledkey, direction, trunkgroup, vdn, split, ucids, tags, hold, complete, lacksaudio, words, record,
        toldby, toldat, scorecards, bestscore, worstscore
    FROM astlogger.entry WHERE deletedat IS NULL;
