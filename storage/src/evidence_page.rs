//! The page in a bundle of evidence: what is in it, the commands by which somebody who has neither AstLogger nor
//! trust in it checks it, and what that proves. The tests do exactly what it says.

use storage_core::Recording;
use storage_core::countersign::{Countersignature, LINES_BEFORE};

use crate::signing::PublicKey;

/// The page for a recording; whether there is a checkpoint before its lines; what others signed of the one after.
pub(crate) fn page(
    record: &Recording,
    key: PublicKey,
    before: bool,
    countersigned: &[Countersignature],
) -> String {
    [contents(record, key, countersigned), commands(record, before), MEANING.to_owned()].concat()
}

fn voice_name(record: &Recording) -> String {
    format!("voice.{}", record.format.extension())
}

/// What is in the bundle, and whose keys are to be compared.
fn contents(record: &Recording, key: PublicKey, countersigned: &[Countersignature]) -> String {
    let voice = voice_name(record);
    let Recording { recordingid, revision, node, .. } = record;
    let keys: String = countersigned
        .iter()
        .map(|signed| format!("  node {}: {}\n", signed.by, PublicKey(signed.key)))
        .collect();
    let keys = if keys.is_empty() { "  (none has countersigned)\n".to_owned() } else { keys };
    format!(
        r#"Evidence for recording {recordingid}, revision {revision}, captured for node {node}

  {voice:<24}the voice file
  record.json             what the recorder wrote about it, without what people may change later
  record-with-notes.json  the same with tags, notes and legal hold: not proved by anything here
  manifest.jsonl          the node's list of what it published, from the checkpoint before on
  before.txt, .sig        the checkpoint before, if there is one, and its signature (Ed25519)
  checkpoint.txt, .sig    the checkpoint after, and its signature
  node.der                the node's public key (DER)
  countersigned-N.txt, .sig   what node N of the same group signed of checkpoint.txt, and its signature
  node-N.der              the public key of node N (DER)

FIRST compare the public key with the one that the node's owner published or gave you earlier, by another way than
this bundle. Otherwise whoever made the bundle may have made the key. This must print that key:

  {key}

  tail -c 32 node.der | od -An -v -tx1 | tr -d ' \n'

Compare the keys of the nodes that countersigned (node-N.der) in the same way, as far as you have them:

{keys}
THEN run the following in this folder, with bash, openssl 3 and sha256sum. It must end with "all in order".

"#
    )
}

/// The commands that check it.
fn commands(record: &Recording, before: bool) -> String {
    let (begin, signatures) = if before {
        ("$(sed -n 's/^manifest [0-9]* //p' before.txt)", "checkpoint before")
    } else {
        // The manifest begins with this bundle's first line.
        ("0000000000000000000000000000000000000000000000000000000000000000", "checkpoint")
    };
    let voice = voice_name(record);
    let Recording { recordingid, revision, .. } = record;
    let text_begins = LINES_BEFORE + 1;
    format!(
        r#"--- begin of commands ---
set -eu
fail() {{ echo "NOT IN ORDER: $1"; exit 1; }}
# 1. The node has signed the checkpoints.
for name in {signatures}; do
  openssl pkeyutl -verify -pubin -keyform DER -inkey node.der -rawin \
    -in $name.txt -sigfile $name.sig || fail "the signature of $name.txt"
done
# 2. No line of the list was altered, removed or inserted: each has the hash of the one before and its own, and the
#    last hash is the one that was signed.
chain={begin}
while IFS= read -r line; do
  stated=$(printf '%s' "$line" | sed 's/.*,"chain":"\([0-9a-f]*\)"}}$/\1/')
  body="${{line%,\"chain\":*}}}}"
  chain=$({{ printf '%b' "$(printf '%s' "$chain" | sed 's/../\\x&/g')"; printf '%s' "$body"; }} \
    | sha256sum | cut -c 1-64)
  [ "$chain" = "$stated" ] || fail "this line of manifest.jsonl: $line"
done < manifest.jsonl
grep -qx "manifest [0-9]* $chain" checkpoint.txt || fail "checkpoint.txt is of another list"
# 3. The voice file and the record are the ones in the list.
voice=$(sha256sum {voice} | cut -c 1-64)
record=$(sha256sum record.json | cut -c 1-64)
grep '"recordingid":"{recordingid}","revision":{revision},' manifest.jsonl \
  | grep "\"voice\":\"$voice\",\"record\":\"$record\"" > /dev/null \
  || fail "{voice} or record.json is not what was published"
# 4. Other nodes have signed the checkpoint, too.
others=""
for text in countersigned-*.txt; do
  [ -e "$text" ] || continue
  other=${{text#countersigned-}}; other=${{other%.txt}}
  openssl pkeyutl -verify -pubin -keyform DER -inkey node-$other.der -rawin \
    -in $text -sigfile countersigned-$other.sig || fail "the signature of $text"
  tail -n +{text_begins} $text | cmp -s - checkpoint.txt || fail "$text is of another checkpoint"
  printf 'astlogger countersignature 1\nby %s\nkey %s\n' $other "$(tail -c 32 node.der | od -An -v -tx1 | tr -d ' \n')" \
    | cmp -s - <(head -n {LINES_BEFORE} $text) || fail "$text is of another node or key"
  others="$others $other"
done
if [ -n "$others" ]; then echo "countersigned by node$others"; else echo "not countersigned"; fi
echo "all in order"
--- end of commands ---
"#
    )
}

/// What has been shown when they end well.
const MEANING: &str = r#"
If you have a checkpoint.txt of this node from earlier or later, compare the lines "manifest": of two checkpoints the later
one must not have the smaller number, and the same number must have the same hash. Otherwise the node was
rolled back. Other nodes of the group keep the last checkpoint that they saw of this one; ask for that (`astlogger verify --against`).

"Countersigned by node N" means: when node N signed, the node's list had exactly these lines. Whoever wants to make it anew needs
N's key as well. "Not countersigned" means that only the node itself vouches for its list: the group had no other member then, none
had an answer, or somebody has taken the countersignatures out of the bundle.

What this proves: voice file and record are those that this node published before the time in checkpoint.txt, and
were not altered since. What it does not: that the node's clock was right, that nobody else had its
signing key, and that what the telephone switch sent to the recorder was what was said.
"#;
