package apierrors

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

// The reasons, by class. A number keeps its meaning for ever; new ones are added
// at the end of their class.
const (
	// Bad input: the request is at fault, and the same request fails again.
	BadNamespaceName       = "HW-1001"
	BadID                  = "HW-1002"
	BadKey                 = "HW-1003"
	ValueTooLarge          = "HW-1004"
	DuplicateKey           = "HW-1005"
	BadToken               = "HW-1006"
	TokenDrift             = "HW-1007"
	BadTTL                 = "HW-1008"
	BadPredicate           = "HW-1009"
	BadPageSize            = "HW-1010"
	BadPageToken           = "HW-1011"
	BadPosition            = "HW-1012"
	MalformedRequest       = "HW-1013"
	TooManyItems           = "HW-1014"
	BadUTF8                = "HW-1015"
	UnsupportedCompression = "HW-1016"
	BadCondition           = "HW-1017"
	BadUpload              = "HW-1018"
	BadNamespaceDocument   = "HW-1019"
	RequestTooLarge        = "HW-1020"
	BadSelection           = "HW-1021"
	BadDeadline            = "HW-1022"
	BadParameter           = "HW-1023"
	BadMethod              = "HW-1024"
	BadConsistency         = "HW-1025"
	BadLogKey              = "HW-1026"
	BadLogStart            = "HW-1027"
	BadConfirm             = "HW-1028"
	MixedBatch             = "HW-1029"
	BadShard               = "HW-1030"
	MissingField           = "HW-1031"
	BadContentType         = "HW-1032"
	BadCounter             = "HW-1033"
	BadEventTime           = "HW-1034"
	BadAccuracy            = "HW-1035"
	BadInterval            = "HW-1036"
	BadGranularity         = "HW-1037"
	BadTimeZone            = "HW-1038"
	TooManyPoints          = "HW-1039"
	BadBounds              = "HW-1040"
	BadReservationID       = "HW-1041"
	BadAmount              = "HW-1042"
	BadLease               = "HW-1043"

	AnswerTooLarge = "HW-1044"
	BadSeries      = "HW-1045"
	BadEvent       = "HW-1046"
	BadQuery       = "HW-1047"
	BadAggregation = "HW-1048"
	TooManyGroups  = "HW-1049"
	BadHeader      = "HW-1050"
	BadTarget      = "HW-1051"
	BadLifecycle   = "HW-1052"
	BadMessageID   = "HW-1053"
	BadDelivered   = "HW-1054"
	BadConsumer    = "HW-1055"
	BadAck         = "HW-1056"

	// Not found, or not of that kind. Absent and forbidden look alike.
	NamespaceNotFound   = "HW-1101"
	WrongAbstraction    = "HW-1102"
	ItemNotFound        = "HW-1103"
	UploadNotFound      = "HW-1104"
	DeadLetterNotFound  = "HW-1105"
	PathNotFound        = "HW-1106"
	NotOffered          = "HW-1107"
	ReservationNotFound = "HW-1108"
	StoreNotFound       = "HW-1109"
	JobNotFound         = "HW-1110"
	MessageNotFound     = "HW-1111"

	// Conflicts with what is there.
	TokenReused              = "HW-1201"
	ConditionFailed          = "HW-1202"
	NamespaceVersionConflict = "HW-1203"
	ChangeNotLive            = "HW-1204"
	TokenTooOld              = "HW-1205"
	UploadIncomplete         = "HW-1206"
	UploadClosed             = "HW-1207"
	CountOverflow            = "HW-1208"
	Insufficient             = "HW-1209"
	ReservationEnded         = "HW-1210"
	SettledTooMuch           = "HW-1211"
	NotReleasable            = "HW-1212"
	EventTooOld              = "HW-1213"
	EventTooNew              = "HW-1214"
	SeriesBlocked            = "HW-1215"
	SliceClosed              = "HW-1216"

	// The key or the position cannot be served as asked.
	Parked           = "HW-1301"
	OtherIncarnation = "HW-1302"
	Trimmed          = "HW-1304"
	BeyondEnd        = "HW-1305"
	NotAccurate      = "HW-1306"
	StoreNotReady    = "HW-1307"
	StoreServes      = "HW-1308"
	LogTooShort      = "HW-1309"
	EventsFolded     = "HW-1310"

	// Overload and limits: nothing was done, a retry later helps.
	Overloaded          = "HW-1401"
	RateLimited         = "HW-1402"
	TokensFull          = "HW-1403"
	TooManyStreams      = "HW-1404"
	LogFull             = "HW-1405"
	ApplyBehind         = "HW-1406"
	TooManyReservations = "HW-1408"
	TooManyNamespaces   = "HW-1409"

	// Unavailable: the server's state, not the request, is at fault.
	LogUnavailable   = "HW-1501"
	LogFailed        = "HW-1502"
	DiskFull         = "HW-1503"
	NotCaughtUp      = "HW-1504"
	Starting         = "HW-1505"
	Draining         = "HW-1506"
	OutcomeUnknown   = "HW-1507"
	NotOwner         = "HW-1509"
	Cancelled        = "HW-1510"
	AppendUnknown    = "HW-1511"
	DeadlineExceeded = "HW-1512"
	Reloading        = "HW-1513"
	NamespaceStopped = "HW-1514"
	Released         = "HW-1515"
	StoreAway        = "HW-1516"
	OwnerAway        = "HW-1517"

	// Who is asking.
	Unauthenticated = "HW-1601"
	Forbidden       = "HW-1602"
	CrossOrigin     = "HW-1603"
	BadHost         = "HW-1604"

	// The server is at fault.
	Internal = "HW-1901"
	Panicked = "HW-1902"
	Corrupt  = "HW-1903"
)

// Reason is one row of the table.
type Reason struct {
	// ID is the stable code, "HW-1001".
	ID   string
	Code codes.Code
	// HTTP is the status over HTTP where it is not that of Code; else 0.
	HTTP int
	// RetryAfter is the default retry hint; 0: a retry does not help.
	RetryAfter time.Duration
	// Title says what happened, Do what to do about it.
	Title, Do string
}

// reasons is in order of ID.
var reasons = []Reason{
	{ID: BadNamespaceName, Code: codes.InvalidArgument,
		Title: "namespace name is not valid",
		Do:    "Use 1 to 48 of a-z, 0-9 and -, beginning with a letter."},
	{ID: BadID, Code: codes.InvalidArgument,
		Title: "record id is not valid",
		Do:    "Use 1 to 1,024 bytes of UTF-8."},
	{ID: BadKey, Code: codes.InvalidArgument,
		Title: "item key is not valid",
		Do:    "Use at most 1,024 bytes."},
	{ID: ValueTooLarge, Code: codes.InvalidArgument,
		Title: "value is too large",
		Do:    "A put takes 1 MiB. Send larger values through BeginUpload, up to the namespace's max_value."},
	{ID: DuplicateKey, Code: codes.InvalidArgument,
		Title: "a key is in the call twice",
		Do:    "Send each key once, or split the call."},
	{ID: BadToken, Code: codes.InvalidArgument,
		Title: "idempotency token is not valid",
		Do:    "Send a nonce of exactly 16 bytes or a key of 1 to 128 bytes of UTF-8, or no token."},
	{ID: TokenDrift, Code: codes.OutOfRange,
		Title: "token's time is too far from the server's",
		Do:    "Correct the client's clock, leave generation_time out, or raise tokens.max_drift_past of the namespace."},
	{ID: BadTTL, Code: codes.OutOfRange,
		Title: "ttl is out of range",
		Do:    "Send a ttl of 1 ms to 87,600 h, or none for the namespace's default."},
	{ID: BadPredicate, Code: codes.InvalidArgument,
		Title: "predicate is not valid",
		Do:    "Set exactly one of match_all, match_keys and match_range, with start before end."},
	{ID: BadPageSize, Code: codes.InvalidArgument,
		Title: "page size or item limit is out of range",
		Do:    "Ask for 1,024 to 4,194,304 bytes and at least 1 item, or leave the field out."},
	{ID: BadPageToken, Code: codes.InvalidArgument,
		Title: "page token is not valid",
		Do:    "Send back next_page_token unchanged with the request that it was made for, or start again without one."},
	{ID: BadPosition, Code: codes.InvalidArgument,
		Title: "position is not valid",
		Do:    "Send positions exactly as an answer gave them."},
	{ID: MalformedRequest, Code: codes.InvalidArgument,
		Title: "request body cannot be read",
		Do:    "Send one JSON object with the fields of the API; unknown and repeated fields are refused."},
	{ID: TooManyItems, Code: codes.InvalidArgument,
		Title: "too many items in one call",
		Do:    "Split the call."},
	{ID: BadUTF8, Code: codes.InvalidArgument,
		Title: "text is not valid UTF-8",
		Do:    "Encode ids and names as UTF-8."},
	{ID: UnsupportedCompression, Code: codes.InvalidArgument,
		Title: "compression is not supported",
		Do:    "Use zstd or s2 for values, gzip or zstd for the body of a request over HTTP."},
	{ID: BadCondition, Code: codes.InvalidArgument,
		Title: "condition is not valid",
		Do:    "Set if_absent to true, or if_version with exactly one item."},
	{ID: BadUpload, Code: codes.InvalidArgument,
		Title: "upload request is not valid",
		Do:    "Keep to the chunk size and count of BeginUpload's answer and the limits of the namespace."},
	{ID: BadNamespaceDocument, Code: codes.InvalidArgument,
		Title: "namespace document is not valid",
		Do:    "Correct what the message names, with its line, and apply again. Nothing was changed."},
	{ID: RequestTooLarge, Code: codes.ResourceExhausted, HTTP: 413,
		Title: "request is too large",
		Do:    "Split the call, or send large values through BeginUpload."},
	{ID: BadSelection, Code: codes.InvalidArgument,
		Title: "selection is not valid",
		Do:    "Correct the field that the message names."},
	{ID: BadDeadline, Code: codes.InvalidArgument,
		Title: "deadline is not valid",
		Do:    "Send Request-Timeout-Ms as a whole number from 1 to 60,000."},
	{ID: BadParameter, Code: codes.InvalidArgument,
		Title: "header or query parameter is not valid",
		Do:    "Correct the parameter that the message names."},
	{ID: BadMethod, Code: codes.Unimplemented, HTTP: 405,
		Title: "HTTP method is not allowed here",
		Do:    "Use a method of the Allow header."},
	{ID: BadConsistency, Code: codes.InvalidArgument,
		Title: "consistency is not known",
		Do:    "Use READ_YOUR_WRITES, LATEST or EVENTUAL."},
	{ID: BadLogKey, Code: codes.InvalidArgument,
		Title: "log key is not valid",
		Do:    "Use at most 1,024 bytes of UTF-8."},
	{ID: BadLogStart, Code: codes.InvalidArgument,
		Title: "start of the log read is not valid",
		Do:    "Set exactly one of earliest, latest, position and time."},
	{ID: BadConfirm, Code: codes.InvalidArgument,
		Title: "confirmation does not match",
		Do:    "Send the namespace's name as confirm."},
	{ID: MixedBatch, Code: codes.InvalidArgument,
		Title: "a batch names several namespaces",
		Do:    "Send one call for each namespace."},
	{ID: BadShard, Code: codes.InvalidArgument,
		Title: "shard is not valid",
		Do:    "Send index from 0 to of - 1."},
	{ID: MissingField, Code: codes.InvalidArgument,
		Title: "a required field is missing",
		Do:    "Set the field that the message names."},
	{ID: BadContentType, Code: codes.InvalidArgument,
		Title: "content type is not valid",
		Do:    "Use at most 256 bytes of visible ASCII."},
	{ID: BadCounter, Code: codes.InvalidArgument,
		Title: "counter name is not valid",
		Do:    "Use 1 to 1,024 bytes of UTF-8."},
	{ID: BadEventTime, Code: codes.InvalidArgument,
		Title: "event time is not valid",
		Do:    "Send a time after 1970, or none for the time that the server accepts the call at."},
	{ID: BadAccuracy, Code: codes.InvalidArgument,
		Title: "accuracy is not known",
		Do:    "Use BEST_EFFORT, EVENTUAL or ACCURATE, or leave it out for the namespace's."},
	{ID: BadInterval, Code: codes.InvalidArgument,
		Title: "interval is not valid",
		Do:    "Send start and end, times after 1970, with start before end."},
	{ID: BadGranularity, Code: codes.InvalidArgument,
		Title: "granularity is not valid",
		Do:    "Send a multiple of the smallest window that the namespace keeps."},
	{ID: BadTimeZone, Code: codes.InvalidArgument,
		Title: "time zone is not known",
		Do:    "Send an IANA name such as Europe/Berlin, or none for UTC."},
	{ID: TooManyPoints, Code: codes.InvalidArgument,
		Title: "series has too many points",
		Do:    "Ask for a shorter interval or a larger granularity; 10,000 points are answered."},
	{ID: BadBounds, Code: codes.InvalidArgument,
		Title: "bounds are not valid",
		Do:    "Set floor, ceiling or both, with floor not above ceiling, and on_violation to REJECT or SATURATE."},
	{ID: BadReservationID, Code: codes.InvalidArgument,
		Title: "reservation id is not valid",
		Do:    "Send reservation_id exactly as ReserveCount gave it."},
	{ID: BadAmount, Code: codes.InvalidArgument,
		Title: "amount is not valid",
		Do:    "Reserve an amount above zero; settle zero or more."},
	{ID: BadLease, Code: codes.OutOfRange,
		Title: "lease is out of range",
		Do:    "Send a lease of 1 ms to 720 h."},
	{ID: AnswerTooLarge, Code: codes.ResourceExhausted, HTTP: 413,
		Title: "the answer would be larger than clients take",
		Do:    "Ask for less, as the message says."},
	{ID: BadSeries, Code: codes.InvalidArgument,
		Title: "id of a time series is not valid",
		Do:    "Use 1 to 1,024 bytes of UTF-8."},
	{ID: BadEvent, Code: codes.InvalidArgument,
		Title: "event is not valid",
		Do:    "Send an id of at most 256 bytes and 1 to 64 items, each key once, each value a string, an int, a finite double or bytes."},
	{ID: BadQuery, Code: codes.InvalidArgument,
		Title: "query of events is not valid",
		Do:    "Set exactly one field of each condition; a query is at most 8 deep and has at most 64 conditions."},
	{ID: BadAggregation, Code: codes.InvalidArgument,
		Title: "aggregation is not valid",
		Do:    "Correct what the message names."},
	{ID: TooManyGroups, Code: codes.ResourceExhausted, HTTP: 413,
		Title: "there are more groups than the limit",
		Do:    "Ask for a larger limit, a shorter interval, longer buckets or fewer labels; with order_by the first groups are answered."},
	{ID: BadHeader, Code: codes.InvalidArgument,
		Title: "header of a message is not valid",
		Do:    `Send at most 64, 16 KiB in all: names of 1 to 128 letters, digits, "-", "_" and ".", values of up to 4 KiB of UTF-8 without line breaks.`},
	{ID: BadTarget, Code: codes.InvalidArgument,
		Title: "target of a message is not valid",
		Do:    "Name targets of the namespace's document (delivery.targets), each once, at most 16; none: those that are default."},
	{ID: BadLifecycle, Code: codes.InvalidArgument,
		Title: "time of a message's delivery is not valid",
		Do:    "Send delay or deliver_at, at most ten years ahead, and no time that has long passed; the namespace needs targets."},
	{ID: BadMessageID, Code: codes.InvalidArgument,
		Title: "message is not named as one is",
		Do:    "Send message_id as WriteToLog answered it, or the token of the message, with its key where the token was used with several."},
	{ID: BadDelivered, Code: codes.InvalidArgument,
		Title: "payload is no write of the namespace that the message goes to",
		Do:    "Send the JSON or protobuf of the write request as docs/log.md has it, without namespace and token, or name another target."},
	{ID: BadConsumer, Code: codes.InvalidArgument,
		Title: "consumer of a log cannot be had like that",
		Do:    "Use a name of letters, digits, \"-\", \"_\" and \".\", settings within their bounds, and at most 1,000 consumers in a namespace."},
	{ID: BadAck, Code: codes.InvalidArgument,
		Title: "acknowledgement is not one of a fetched message",
		Do:    "Send ack_id as FetchMessages gave it, with a kind and a delay as docs/log.md has them."},
	{ID: NamespaceNotFound, Code: codes.NotFound,
		Title: "namespace does not exist",
		Do:    "Check the name, or create the namespace with `headwater namespace apply`."},
	{ID: WrongAbstraction, Code: codes.FailedPrecondition,
		Title: "namespace is of another abstraction",
		Do:    "Use the service of the namespace's abstraction, or another namespace."},
	{ID: ItemNotFound, Code: codes.NotFound,
		Title: "item does not exist",
		Do:    "Nothing is stored under this id and key, or it has expired."},
	{ID: UploadNotFound, Code: codes.NotFound,
		Title: "upload does not exist",
		Do:    "Begin the upload again; uploads that are not committed expire."},
	{ID: DeadLetterNotFound, Code: codes.NotFound,
		Title: "no such dead letter",
		Do:    "List dead letters to see which there are."},
	{ID: PathNotFound, Code: codes.NotFound,
		Title: "nothing is served under this path",
		Do:    "See /openapi.json for what is."},
	{ID: NotOffered, Code: codes.Unimplemented,
		Title: "this server does not offer the operation",
		Do:    "Check the server's version with Status, and capabilities with Handshake."},
	{ID: ReservationNotFound, Code: codes.NotFound,
		Title: "reservation does not exist",
		Do:    "It was never made, or it ended longer than a token window ago; reserve again."},
	{ID: StoreNotFound, Code: codes.NotFound,
		Title: "namespace has no such store",
		Do:    "Look at `headwater store list`; stores come from the namespace document."},
	{ID: JobNotFound, Code: codes.NotFound,
		Title: "no such job",
		Do:    "Look at `headwater jobs`; jobs that ended are forgotten after a while and with the process."},
	{ID: MessageNotFound, Code: codes.NotFound,
		Title: "nothing is known of the message",
		Do:    "It went to no target, or ended longer ago than delivery.keep_done. ReadLog may still have it."},
	{ID: TokenReused, Code: codes.AlreadyExists,
		Title: "token was used for another request",
		Do:    "Make a new token for a new request; send a retry unchanged."},
	{ID: ConditionFailed, Code: codes.Aborted,
		Title: "condition does not hold",
		Do:    "Read the item again, decide again, and write with a new token."},
	{ID: NamespaceVersionConflict, Code: codes.Aborted,
		Title: "namespace was changed by someone else",
		Do:    "Read the namespace, redo the change on the version of metadata.currentVersion, and apply again."},
	{ID: ChangeNotLive, Code: codes.FailedPrecondition,
		Title: "the change cannot be made to a live namespace",
		Do:    "Follow the way that the message names, usually a new namespace."},
	{ID: TokenTooOld, Code: codes.FailedPrecondition,
		Title: "token is older than the namespace's token window",
		Do:    "Check whether the write happened; if not, send it with a new token."},
	{ID: UploadIncomplete, Code: codes.FailedPrecondition,
		Title: "upload does not hold what was committed",
		Do:    "Send the missing chunks again, and commit with the true count, size and checksum."},
	{ID: UploadClosed, Code: codes.FailedPrecondition,
		Title: "upload was committed, aborted or has expired",
		Do:    "Begin a new upload."},
	{ID: CountOverflow, Code: codes.OutOfRange,
		Title: "the count would leave int64",
		Do:    "Nothing was changed. Add less, or clear the counter."},
	{ID: Insufficient, Code: codes.FailedPrecondition,
		Title: "less is available than was to be reserved",
		Do:    "Reserve at most value less held (metadata value, held), or wait until reservations end."},
	{ID: ReservationEnded, Code: codes.FailedPrecondition,
		Title: "reservation is no longer held",
		Do:    "Nothing was changed; metadata.state says how it ended. Reserve again."},
	{ID: SettledTooMuch, Code: codes.FailedPrecondition,
		Title: "more was to be settled than is reserved",
		Do:    "Settle at most the reserved amount (metadata.reserved); add the rest by itself."},
	{ID: NotReleasable, Code: codes.FailedPrecondition,
		Title: "the namespace cannot be released, or taken back, here",
		Do:    "The message says why. Nothing was changed."},
	{ID: EventTooOld, Code: codes.FailedPrecondition,
		Title: "event is older than the namespace accepts",
		Do:    "Send events sooner, or raise timeseries.accept_limit of the namespace for as long as old events are loaded."},
	{ID: EventTooNew, Code: codes.FailedPrecondition,
		Title: "event is further in the future than the namespace accepts",
		Do:    "Correct the clock that the event's time is of, or raise timeseries.accept_future."},
	{ID: SeriesBlocked, Code: codes.FailedPrecondition,
		Title: "series is blocked",
		Do:    "Take the series out of timeseries.blocked of the namespace if it should be written."},
	{ID: SliceClosed, Code: codes.FailedPrecondition,
		Title: "time slice is closed",
		Do:    "Raise lifecycle.close_after of the namespace while the slice is not dropped yet."},
	{ID: Parked, Code: codes.FailedPrecondition,
		Title: "a mutation of this key cannot be applied",
		Do:    "Read with consistency EVENTUAL to see the state before it; an operator redrives or drops it with `headwater dlq`."},
	{ID: OtherIncarnation, Code: codes.FailedPrecondition,
		Title: "position is of another life of the namespace",
		Do:    "Forget positions from before the namespace was made again."},
	{ID: Trimmed, Code: codes.OutOfRange,
		Title: "the log no longer holds this position",
		Do:    "Start from earliest."},
	{ID: BeyondEnd, Code: codes.OutOfRange,
		Title: "position is beyond the end of the log",
		Do:    "Check which namespace and server the position is from."},
	{ID: NotAccurate, Code: codes.FailedPrecondition,
		Title: "the namespace has no accurate reads",
		Do:    "Its adds are acknowledged before they are durable. Read with accuracy BEST_EFFORT or EVENTUAL, or change counter.accuracy."},
	{ID: StoreNotReady, Code: codes.FailedPrecondition,
		Title: "store is not ready for that",
		Do:    "Look at `headwater store list`: wait until it is COMPARING, and equal, or pass --accept-differences."},
	{ID: StoreServes, Code: codes.FailedPrecondition,
		Title: "store serves the namespace",
		Do:    "Promote another store first; the PRIMARY cannot be dropped or compared with itself."},
	{ID: LogTooShort, Code: codes.FailedPrecondition,
		Title: "log no longer reaches back far enough",
		Do:    "Add a store of role SHADOW instead: it is built from a copy of the PRIMARY and the log after it."},
	{ID: EventsFolded, Code: codes.FailedPrecondition,
		Title: "old events of the counter are folded",
		Do:    "Ask for a series by a multiple of the smallest window; `counter.event_retention: 0` keeps the events of new counters for ever."},
	{ID: Overloaded, Code: codes.ResourceExhausted, RetryAfter: 100 * time.Millisecond,
		Title: "server is overloaded",
		Do:    "Retry after the hint, with backoff."},
	{ID: RateLimited, Code: codes.ResourceExhausted, RetryAfter: 1000 * time.Millisecond,
		Title: "namespace is above its rate limit",
		Do:    "Retry after the hint, which is when the limit has something left; or raise limits of the namespace."},
	{ID: TokensFull, Code: codes.ResourceExhausted, RetryAfter: 1000 * time.Millisecond,
		Title: "too many live idempotency tokens",
		Do:    "Retry later, batch more under one token, or raise tokens.max_live."},
	{ID: TooManyStreams, Code: codes.ResourceExhausted, RetryAfter: 1000 * time.Millisecond,
		Title: "too many open streams",
		Do:    "Close streams that are not needed."},
	{ID: LogFull, Code: codes.ResourceExhausted, RetryAfter: 5000 * time.Millisecond,
		Title: "namespace's log is at log.max_bytes",
		Do:    "Look at what blocks trim in Status; a store that is down holds the log."},
	{ID: ApplyBehind, Code: codes.ResourceExhausted, RetryAfter: 200 * time.Millisecond,
		Title: "stores are too far behind the log",
		Do:    "Retry after the hint; Status shows the lag."},
	{ID: TooManyReservations, Code: codes.ResourceExhausted, RetryAfter: 1000 * time.Millisecond,
		Title: "too many reservations are held",
		Do:    "Settle or cancel some, or wait until leases end."},
	{ID: TooManyNamespaces, Code: codes.ResourceExhausted,
		Title: "the registry of namespaces is full",
		Do:    "Delete namespaces that are not used; one that has had 65,536 versions has to be made anew under another name."},
	{ID: LogUnavailable, Code: codes.Unavailable, RetryAfter: 500 * time.Millisecond,
		Title: "log cannot be reached or is not durable",
		Do:    "Retry with the same token."},
	{ID: LogFailed, Code: codes.Unavailable,
		Title: "log has failed and takes no more writes",
		Do:    "An operator looks at the server's log, repairs the disk, and restarts. What was acknowledged is safe."},
	{ID: DiskFull, Code: codes.Unavailable, RetryAfter: 5000 * time.Millisecond,
		Title: "disk is at its free-space floor",
		Do:    "Free space; writes are taken again by themselves."},
	{ID: NotCaughtUp, Code: codes.Unavailable, RetryAfter: 50 * time.Millisecond,
		Title: "the store has not reached what the read asked for",
		Do:    "Retry, allow more time, or read with consistency EVENTUAL."},
	{ID: Starting, Code: codes.Unavailable, RetryAfter: 200 * time.Millisecond,
		Title: "server is starting",
		Do:    "Retry after the hint."},
	{ID: Draining, Code: codes.Unavailable, RetryAfter: 200 * time.Millisecond,
		Title: "server is shutting down",
		Do:    "Retry; another server or the next start answers."},
	{ID: OutcomeUnknown, Code: codes.DeadlineExceeded, RetryAfter: 50 * time.Millisecond,
		Title: "the deadline passed while the write was on its way",
		Do:    "Send it again with the same token."},
	{ID: NotOwner, Code: codes.Unavailable, RetryAfter: 500 * time.Millisecond,
		Title: "another process serves this namespace",
		Do:    "Send the request to the process that the message names."},
	{ID: Cancelled, Code: codes.Canceled,
		Title: "the caller cancelled the request",
		Do:    "If it was a write, send it again with the same token to learn what became of it."},
	{ID: AppendUnknown, Code: codes.Unavailable, RetryAfter: 200 * time.Millisecond,
		Title: "the log did not say whether it has the write",
		Do:    "Send it again with the same token."},
	{ID: DeadlineExceeded, Code: codes.DeadlineExceeded,
		Title: "the deadline passed before the answer",
		Do:    "Allow more time or ask for less. A write is sent again with the same token."},
	{ID: Reloading, Code: codes.Unavailable, RetryAfter: 200 * time.Millisecond,
		Title: "a part of the namespace is being read back",
		Do:    "Retry after the hint; nothing was lost."},
	{ID: NamespaceStopped, Code: codes.Unavailable,
		Title: "namespace is not served",
		Do:    "Its store or topic cannot be used; the message and `headwater status` say why. Mend that and restart the server; the log has what was acknowledged."},
	{ID: Released, Code: codes.Unavailable,
		Title: "this data directory is no longer the namespace's home",
		Do:    "Send the request to the process of the new home. See `headwater namespace release` if it was released by mistake."},
	{ID: StoreAway, Code: codes.Unavailable, RetryAfter: 1000 * time.Millisecond,
		Title: "server that has the data does not answer",
		Do:    "Retry reads later; writes go on. An operator looks at the cluster that the namespace's storage names."},
	{ID: OwnerAway, Code: codes.Unavailable, RetryAfter: 500 * time.Millisecond,
		Title: "worker that holds a partition cannot be reached",
		Do:    "Retry reads after the hint; plain writes go on. `headwater status` names the worker; start one with `headwater consume` where none has claimed the partition."},
	{ID: Unauthenticated, Code: codes.Unauthenticated,
		Title: "caller is not known",
		Do:    "Send valid credentials."},
	{ID: Forbidden, Code: codes.PermissionDenied,
		Title: "caller may not do this",
		Do:    "Ask an administrator of the namespace for the grant."},
	{ID: CrossOrigin, Code: codes.PermissionDenied,
		Title: "a web page of another origin sent the request",
		Do:    "Call the API from a program, or from a page that this server serves."},
	{ID: BadHost, Code: codes.PermissionDenied,
		Title: "the request is for a host name that this server does not answer to",
		Do:    "Use localhost, the machine's name or an IP address, or add the name to allowed_hosts."},
	{ID: Internal, Code: codes.Internal,
		Title: "internal error",
		Do:    "Report it with the request id; the server's log has the cause."},
	{ID: Panicked, Code: codes.Internal,
		Title: "a request handler broke down",
		Do:    "Report it with the request id; the server's log has the stack."},
	{ID: Corrupt, Code: codes.DataLoss,
		Title: "stored bytes are not what was written",
		Do:    "An operator restores the store from a snapshot or the log; nothing was guessed."},
}

var byID = func() map[string]*Reason {
	m := make(map[string]*Reason, len(reasons))
	for i := range reasons {
		m[reasons[i].ID] = &reasons[i]
	}
	return m
}()

// Reasons returns the table, in order of ID.
func Reasons() []Reason { return slices.Clone(reasons) }

// Lookup returns the row of a code.
func Lookup(id string) (Reason, bool) {
	r, ok := byID[id]
	if !ok {
		return Reason{}, false
	}
	return *r, true
}
