package gateway

import (
	"context"
	"errors"
	"maps"
	"math/big"
	"strconv"
	"strings"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// ToAPI gives an error of the packages below the form in which callers of the API get it.
func ToAPI(err error) error { return fromDomain(err) }

// fromDomain turns an error of the packages below into one of the API. It is the
// only place that does.
func fromDomain(err error) *apierrors.Error {
	var (
		api    *apierrors.Error
		cond   *kv.ConditionError
		drift  *wal.DriftError
		add    *counter.AddError
		little *counter.InsufficientError
		ended  *counter.EndedError
		much   *counter.TooMuchError
		parked *kv.ParkedError
		behind *wal.BehindError
		owned  *namespace.OwnedError
	)
	switch {
	case errors.As(err, &api):
		return api
	case errors.As(err, &cond):
		e := apierrors.Wrap(apierrors.ConditionFailed, err, "the condition does not hold; read the item again and write with a new token")
		current := ""
		if cond.Current != (wal.Version{}) {
			current = cond.Current.String()
		}
		return e.With("currentVersion", current)
	case errors.As(err, &add):
		return atAdd(fromDomain(add.Err), add.Index)
	case errors.As(err, &drift):
		return apierrors.Wrap(apierrors.TokenDrift, err, "token.generation_time is off by %v (allowed: %v into the past, %v into the future); correct the clock or leave it out", drift.Drift, drift.Past, drift.Future)
	case errors.As(err, &little):
		available := new(big.Int).Sub(big.NewInt(little.Value), big.NewInt(little.Held)) // int64 may not hold it
		e := apierrors.Wrap(apierrors.Insufficient, err, "%d was to be reserved and %s is available; reserve less or wait until reservations end", little.Wanted, available)
		return e.With("value", strconv.FormatInt(little.Value, 10)).With("held", strconv.FormatInt(little.Held, 10)).With("available", available.String())
	case errors.As(err, &ended):
		state := reservationState(ended.State)
		return apierrors.Wrap(apierrors.ReservationEnded, err, "the reservation is no longer held: it is %s", strings.ToLower(state)).With("state", state)
	case errors.As(err, &much):
		e := apierrors.Wrap(apierrors.SettledTooMuch, err, "%d was to be settled of a reservation of %d; settle at most that, and add the rest by itself", much.Wanted, much.Reserved)
		return e.With("reserved", strconv.FormatInt(much.Reserved, 10))
	case errors.As(err, &parked):
		e := apierrors.Wrap(apierrors.Parked, err, "the key is parked behind record %s, which cannot be applied; redrive or drop it with `headwater dlq`", parked.Ref)
		return e.With("parked", parked.Ref.String())
	case errors.As(err, &owned) && owned.Released != nil:
		return apierrors.Wrap(apierrors.Released, err, "%v; send the request to the process of the new home", owned).With("owner", owned.Owner)
	case errors.As(err, &owned):
		e := apierrors.Wrap(apierrors.NotOwner, err, "the process on data directory %s serves the namespace; send the request to it (Status tells a process's id as incarnation)", owned.Owner)
		return e.With("owner", owned.Owner)
	case errors.As(err, &behind):
		if errors.Is(err, wal.ErrCorrupt) {
			break
		}
		e := apierrors.Wrap(apierrors.NotCaughtUp, err, "the store has not reached what the read asked for; retry or allow more time")
		if errors.Is(err, consumers.ErrOwnerAway) {
			e = apierrors.Wrap(apierrors.OwnerAway, err, "%s", ownerAway)
		}
		return e.With("wanted", strconv.FormatInt(int64(behind.Wanted), 10)).With("applied", strconv.FormatInt(int64(behind.Applied), 10)).
			With("partition", behind.Partition.String())
	}
	for _, m := range domain {
		if errors.Is(err, m.err) {
			return apierrors.Wrap(m.reason, err, "%s", m.message)
		}
	}
	return apierrors.From(err)
}

// atAdd says which add of a call an error is about.
func atAdd(err error, index int) *apierrors.Error {
	e := *fromDomain(err)
	e.Message = "adds[" + strconv.Itoa(index) + "]: " + e.Message
	e.Metadata = maps.Clone(e.Metadata)
	return e.With("add", strconv.Itoa(index))
}

func reservationState(s counter.ReservationState) string {
	switch s {
	case counter.Settled:
		return "SETTLED"
	case counter.Cancelled:
		return "CANCELLED"
	case counter.Held:
		return "HELD"
	default:
		return "EXPIRED"
	}
}

const ownerAway = "the worker that holds a partition of the namespace cannot be reached, or none has claimed it; writes are taken, and reads work when it is back"

var domain = []struct {
	err     error
	reason  string
	message string
}{
	{wal.ErrTokenReused, apierrors.TokenReused, "the token was used for another request; make a new token for a new request"},
	{wal.ErrTokenUnsure, apierrors.OwnerAway, "another request came under the token a moment ago, and the worker that knows which was first has not applied them; send this one again"},
	{wal.ErrUnapplied, apierrors.ApplyBehind, "too many mutations wait to be applied; retry after the hint"},
	{wal.ErrWrongIncarnation, apierrors.OtherIncarnation, "the position is of another life of the namespace; forget positions from before it was made again"},
	{wal.ErrTooLarge, apierrors.RequestTooLarge, "the write is larger than a record of the log; split it"},
	{wal.ErrOverloaded, apierrors.Overloaded, "the queue in front of the log is full; retry after the hint"},
	{wal.ErrDiskFull, apierrors.DiskFull, "the disk is at its free-space floor; free space, and writes are taken again"},
	{wal.ErrFailed, apierrors.LogFailed, "the log has failed and takes no more writes; see the server's log"},
	{wal.ErrCorrupt, apierrors.Corrupt, "stored bytes are not what was written; see the server's log for the place"},
	{wal.ErrTrimmed, apierrors.Trimmed, "the log no longer holds this position; start from earliest"},
	{wal.ErrBeyondEnd, apierrors.BeyondEnd, "the position is beyond the end of the log"},
	{wal.ErrUnavailable, apierrors.LogUnavailable, "the log cannot be reached; retry with the same token"},
	{wal.ErrIncarnation, apierrors.LogFailed, "the namespace's topic was made again behind the server's back"},
	{wal.ErrPartitionCount, apierrors.LogFailed, "the namespace's topic has another number of partitions than it was made with"},
	{wal.ErrClosed, apierrors.Draining, "the server is shutting down; retry"},
	{kv.ErrClosed, apierrors.Draining, "the server is shutting down; retry"},
	{kv.ErrNotFound, apierrors.ItemNotFound, "there is no such item, or it has expired"},
	{wal.ErrTooOld, apierrors.TokenTooOld, "the token is older than the namespace's token window; check whether the write happened, then use a new token"},
	{wal.ErrTokensFull, apierrors.TokensFull, "as many tokens are live as tokens.max_live allows; retry later or batch more under one token"},
	{kv.ErrDuplicateKey, apierrors.DuplicateKey, "a key stands twice in the call; send each key once"},
	{kv.ErrAcrossPartitions, apierrors.BadCondition, "a group with a condition is of one partition, and this one is not; leave the condition out, or let the group be of one record"},
	{counter.ErrClosed, apierrors.Draining, "the server is shutting down; retry"},
	{counter.ErrOverflow, apierrors.CountOverflow, "the count would leave int64; add less, or clear the counter"},
	{counter.ErrNoReservation, apierrors.ReservationNotFound, "there is no such reservation, or it ended longer than a token window ago; reserve again"},
	{counter.ErrTooManyReservations, apierrors.TooManyReservations, "as many reservations are held as a partition takes; settle or cancel some, or wait until leases end, and reserve again with a new token"},
	{counter.ErrNotAccurate, apierrors.NotAccurate, "the namespace acknowledges adds before they are durable, so no read of it is accurate; read with BEST_EFFORT or EVENTUAL"},
	{counter.ErrGranularity, apierrors.BadGranularity, "granularity is not a multiple of the smallest window that the namespace keeps"},
	{counter.ErrNoEvents, apierrors.StoreNotReady, "the store of role EVENTS is not SERVING yet; ask for a multiple of the smallest window, or again when headwater store list says that it is"},
	{counter.ErrEventsFolded, apierrors.EventsFolded, "old events of the counter are folded into a sum, and its windows alone are left of them; ask for a multiple of the smallest window"},
	{counter.ErrTooManyPoints, apierrors.TooManyPoints, "the series has more than 10,000 points; ask for a shorter interval or a larger granularity"},
	{consumers.ErrNotAssigned, apierrors.Reloading, "a partition of the namespace is being turned to another store; retry after the hint"},
	{counter.ErrReloading, apierrors.Reloading, "a part of the namespace is being read back; retry after the hint"},
	{kv.ErrUploadUnknown, apierrors.UploadClosed, "the upload never began, has expired, or was committed or aborted; begin it again"},
	{timeseries.ErrTooManyGroups, apierrors.TooManyGroups, "there are more groups than the limit of the request, or than 1,000,000 where it has order_by; ask for a larger limit, a shorter interval, longer buckets or fewer labels"},
	{timeseries.ErrGroupMemory, apierrors.TooManyGroups, "the groups need more memory than a request may take; ask for a shorter interval, longer buckets, or fewer labels or aggregations"},
	{timeseries.ErrAcrossTime, apierrors.BadInterval, "the interval has more than 10,000 time slices; ask for a shorter one"},
	{durable.ErrTooMany, apierrors.BadConsumer, "the namespace has 1,000 consumers, and takes no more; delete those that are not needed"},
	{durable.ErrNotHere, apierrors.OwnerAway, ownerAway},
	{consumers.ErrOwnerAway, apierrors.OwnerAway, ownerAway},
	{consumers.ErrStoreAway, apierrors.StoreAway, "the server that has the data does not answer; writes are taken, and reads work when it is back"},
	{kv.ErrUploadBroken, apierrors.UploadIncomplete, "chunks are missing, or size or checksum differ; send what is missing and commit again with a new token"},
}

// forWrite completes the error of a write: its outcome and the token to send it
// again with.
func forWrite(err error, unknown bool, token *headwaterv1.IdempotencyToken) error {
	if err == nil {
		return nil
	}
	e := *fromDomain(err)
	switch {
	case unknown && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		e = *apierrors.Wrap(apierrors.OutcomeUnknown, err, "the deadline passed while the write was on its way; send it again with the same token")
		e.Outcome = apierrors.Unknown
	case unknown:
		if e.Reason == apierrors.Internal {
			e = *apierrors.Wrap(apierrors.AppendUnknown, err, "the log did not say whether it has the write; send it again with the same token")
		}
		e.Outcome = apierrors.Unknown
	case errors.Is(err, wal.ErrNotAppended) && e.Reason == apierrors.Internal:
		e = *apierrors.Wrap(apierrors.LogUnavailable, err, "the log did not take the write; retry with the same token")
		e.Outcome = apierrors.NotApplied
	default:
		e.Outcome = apierrors.NotApplied
	}
	e.Token = token
	return &e
}
