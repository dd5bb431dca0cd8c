package gateway

import (
	"context"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/timeseries"
)

var sliceStates = map[timeseries.SliceState]headwaterv1.TimeSlice_State{
	timeseries.SliceOpen: headwaterv1.TimeSlice_OPEN, timeseries.SliceShut: headwaterv1.TimeSlice_CLOSED, timeseries.SliceDropped: headwaterv1.TimeSlice_DROPPED,
}

// ListTimeSlices lists the slices of a namespace.
func (s *TimeSeries) ListTimeSlices(ctx context.Context, req *headwaterv1.ListTimeSlicesRequest) (*headwaterv1.ListTimeSlicesResponse, error) {
	ns, err := s.dir.timeSeries(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	list, err := ns.TimeSeries.SliceInfos(ctx)
	if err != nil {
		return nil, fromDomain(err)
	}
	out := &headwaterv1.ListTimeSlicesResponse{}
	for _, x := range list {
		out.Slices = append(out.Slices, &headwaterv1.TimeSlice{
			Start: timeMessage(x.Start), End: timeMessage(x.End), Bytes: x.Bytes, Events: x.Events, State: sliceStates[x.State], EventBuckets: int32(x.EventBuckets),
		})
	}
	return whole(out, "make timeseries.slice longer, so that there are fewer")
}
