package gateway

import (
	"context"
	"errors"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// MaxLogKey is the longest key of a message.
const MaxLogKey = 1024

// PositionHeader names, in the headers of ReadLog's answer, the position that the
// read has begun behind.
const PositionHeader = "headwater-position"

// Log is the LogService.
type Log struct {
	headwaterv1.UnimplementedLogServiceServer
	dir     *Directory
	broker  wal.Broker
	noteJob func(*headwaterv1.Job)
}

// NewLog returns the service over dir. noteJob is given the jobs of what was redriven
// or dropped when they have ended; it may be nil.
func NewLog(dir *Directory, broker wal.Broker, noteJob func(*headwaterv1.Job)) *Log {
	if noteJob == nil {
		noteJob = func(*headwaterv1.Job) {}
	}
	return &Log{dir: dir, broker: broker, noteJob: noteJob}
}

// WriteToLog puts a message into a log namespace. The answer says SUCCEEDED when
// it is durable, UNKNOWN when the log did not say in time (send it again with
// the same token), FAILED when the log did not take it; a request that is bad in
// itself is an error.
func (s *Log) WriteToLog(ctx context.Context, req *headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
	ns, err := s.dir.messages(ctx, req.GetNamespace())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	if hasUnknown(req) {
		return nil, forWrite(laterError("WriteToLog"), false, req.GetToken())
	}
	if len(req.GetKey()) > MaxLogKey || !utf8.ValidString(req.GetKey()) {
		return nil, forWrite(apierrors.New(apierrors.BadLogKey, "key has %d bytes; it may have %d of UTF-8", len(req.GetKey()), MaxLogKey), false, req.GetToken())
	}
	if most := min(ns.Config().Limits.MaxValue, wal.MaxRecordBytes-4096); int64(len(req.GetPayload())) > most {
		return nil, forWrite(apierrors.New(apierrors.ValueTooLarge, "payload has %d bytes; it may have %d", len(req.GetPayload()), most), false, req.GetToken())
	}
	tok, err := parseToken(req.GetToken())
	if err == nil {
		err = ns.admitWrite(1, len(req.GetPayload()))
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	w, err := ns.Messages.Write(ctx, &delivery.Message{Key: req.GetKey(), Payload: req.GetPayload(), Token: tok})
	res := &headwaterv1.WriteToLogResponse{Result: &headwaterv1.WriteResult{Token: tokenMessage(w.Token, req.GetToken())}}
	switch {
	case err == nil:
		res.Durable = headwaterv1.WriteToLogResponse_SUCCEEDED
		res.Result.Position, res.Result.Durability, res.Result.Duplicate = ns.Stream.Position(w.Partition, w.Offset), ns.durability(), duplicateOf(w.Duplicate, w.Unsure)
	case errors.Is(err, wal.ErrUnknown):
		res.Durable, res.Result.Duplicate = headwaterv1.WriteToLogResponse_UNKNOWN, headwaterv1.WriteResult_UNKNOWN
		res.Message = "the log did not say whether it has the message; send it again with the same token"
	case refusedMessage(err):
		return nil, forWrite(err, false, res.Result.Token)
	default:
		e := fromDomain(forWrite(err, false, nil))
		res.Durable, res.Message, res.Reason = headwaterv1.WriteToLogResponse_FAILED, e.Message, e.Reason
		res.Result.Duplicate = headwaterv1.WriteResult_NO
	}
	return res, nil
}

// refusedMessage reports whether a message was refused for what it asks or for what
// waits before it, as opposed to a log that could not take it.
func refusedMessage(err error) bool {
	var drift *wal.DriftError
	var parked *consumers.ParkedError
	return errors.As(err, &drift) || errors.As(err, &parked) || errors.Is(err, wal.ErrTokensFull) ||
		errors.Is(err, wal.ErrTokenReused) || errors.Is(err, wal.ErrUnapplied) || errors.Is(err, wal.ErrOverloaded)
}

// ReadLog streams the records of a namespace of any abstraction: each partition
// in order, the partitions side by side. Without follow it ends at what was
// durable when it began.
func (s *Log) ReadLog(req *headwaterv1.ReadLogRequest, stream headwaterv1.LogService_ReadLogServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	ns, err := s.dir.lookup(ctx, req.GetNamespace())
	if err != nil {
		return err
	}
	t := &tail{ns: ns, req: req, stream: stream}
	if err := t.filter(req.GetFilter()); err != nil {
		return err
	}
	starts, err := t.starts(ctx)
	if err != nil {
		return err
	}
	// A message may be long in coming: the caller learns now that it is served, and
	// from where on.
	if err := stream.SendHeader(metadata.Pairs(PositionHeader, t.at.String())); err != nil {
		return err
	}
	errs := make(chan error, len(starts))
	var wg sync.WaitGroup
	for p, b := range starts {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := t.partition(ctx, wal.Partition(p), b.Start, b.End); err != nil {
				errs <- err
				cancel()
			}
		}()
	}
	wg.Wait()
	if err := stream.Context().Err(); err != nil {
		return err
	}
	select {
	case err := <-errs:
		return fromDomain(err)
	default:
		return nil
	}
}
