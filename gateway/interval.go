package gateway

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// parseInterval checks an interval, whose ends are both given and whose start is
// before its end. The times are in microseconds since 1970; what is finer is cut.
func parseInterval(i *headwaterv1.TimeInterval) (from, to int64, err error) {
	start, end := i.GetStart(), i.GetEnd()
	if start == nil || end == nil {
		return 0, 0, apierrors.New(apierrors.BadInterval, "interval needs start and end")
	}
	if start.CheckValid() != nil || end.CheckValid() != nil || start.AsTime().UnixMicro() < 0 {
		return 0, 0, apierrors.New(apierrors.BadInterval, "interval.start and interval.end must be times after 1970")
	}
	from, to = start.AsTime().UnixMicro(), end.AsTime().UnixMicro()
	if from >= to {
		return 0, 0, apierrors.New(apierrors.BadInterval, "interval.end is not after interval.start, in whole microseconds")
	}
	return from, to, nil
}

// parseSince checks two bounds of which either may be left out, and which may be
// the same: then nothing is between them.
func parseSince(reason string, since, until *timestamppb.Timestamp) error {
	if since != nil && since.CheckValid() != nil || until != nil && until.CheckValid() != nil {
		return apierrors.New(reason, "since or until is not a time")
	}
	if since != nil && until != nil && since.AsTime().UnixMicro() > until.AsTime().UnixMicro() {
		return apierrors.New(reason, "since is after until")
	}
	return nil
}
