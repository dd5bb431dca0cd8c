package gateway

import (
	"context"
	"sync"

	"google.golang.org/grpc/metadata"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// PositionHeader names, in the headers of ReadLog's answer, the position that the
// read has begun behind.
const PositionHeader = "headwater-position"

// Log is the LogService.
type Log struct {
	headwaterv1.UnimplementedLogServiceServer
	dir    *Directory
	broker wal.Broker
	jobs   Jobs
}

// NewLog returns the service over dir. jobs runs what is redriven or dropped; nil: nobody can list it.
func NewLog(dir *Directory, broker wal.Broker, jobs Jobs) *Log {
	if jobs == nil {
		jobs = goJobs{}
	}
	return &Log{dir: dir, broker: broker, jobs: jobs}
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
