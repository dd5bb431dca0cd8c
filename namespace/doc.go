// Package namespace holds the configuration of namespaces: the document and its
// strict validation, and the registry, which is a state machine over a log topic
// of its own.
//
// # What it guarantees
//
// A document is accepted or refused as a whole, with every problem and its line
// (Parse). A setting that this build does not act on is refused, not ignored.
//
// A change that Registry.Apply returned is durable. Of changes that are based on
// one version, exactly one is accepted, whichever processes made them: the log's
// order decides, and everyone who reads it comes to the same state. A version,
// once accepted, means the same for ever: its record carries the configuration
// that was in force, defaults and all (Registry.At). Generations and versions
// are not used twice. The topic of a namespace exists before the record that
// names it.
//
// A record that cannot be read stops the registry, with its reason; it goes on
// answering what it knew.
//
// # What it does not
//
// It serves nothing and applies nothing: who does watches it. It does not say who
// may change a namespace. It does not remove the stores of a deleted one, and
// its topics only when asked (ReapLife, Reap). It keeps the configurations of
// deleted namespaces in its log, which is never trimmed. A version is unknown to
// At once the life that it belonged to is over.
//
// # Record format, version 1
//
// The records of the registry's topic (SystemTopicName), partition 0, are wal records of
// wal.KindNamespace, whose routing key is the namespace's name; the token's
// nonce is drawn for each attempt. Barriers stand between them and change
// nothing; any other kind stops the registry. The payload is
//
//	byte 0       0x01, the version of the payload
//	bytes 1...   a JSON object with these members and no others
//
//	 op            "apply", "delete", "owner", "stores", "secret"
//	 name          of the namespace
//	 base_version  apply, delete: the version that the change was made from;
//	               absent: the name was not in use. owner: the version that made
//	               the owner before so, or that released the last; absent: nobody
//	               has been the owner
//	 generation    of the life that is meant, or that begins; from 1
//	 incarnation   apply: of the topic, 32 hex digits
//	 document      apply: the text as it was applied
//	 config        apply: Config, what the text means with every default filled in;
//	               durations in nanoseconds, sizes in bytes
//	 owner_before  owner: who must own it; absent: nobody
//	 owner         owner: who owns it then; absent: nobody
//	 stores_before, stores  stores, and apply where it exchanges roles: the lives of the
//	               stores, and the version that they were last changed by
//	 secret        secret: 32 bytes in base64, of no namespace; see Registry.Secret
//	 by            who asked
//
// A record is accepted, in log order, when
//
//	apply   base_version is the version that is current (absent: none), and
//	        generation is current's with the same incarnation, abstraction and
//	        partitions; or, where the name is not in use, above every generation
//	        that it has had, with fewer than MaxNamespaces in use
//	delete  base_version and generation are current's
//	owner   generation is current's, and owner_before is the owner, since
//	        base_version
//	stores  generation is current's, and stores_before is when its stores were
//	        last changed
//	secret  there is none yet
//
// and changes nothing otherwise. The version that it makes is its offset plus
// one. Golden bytes are in testdata/change_v1.txt.
package namespace
