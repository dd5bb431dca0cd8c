package gateway

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

func formatVersion(v uint64) string { return strconv.FormatUint(v, 10) }

// AdminConfig is what the AdminService tells about.
type AdminConfig struct {
	Directory   *Directory
	Broker      wal.Broker
	LogType     string // embedded | kafka
	Incarnation string // of the data directory
	Version     string
	Commit      string
	// TokensLive counts the tokens that a namespace remembers.
	TokensLive func(ctx context.Context, namespace string) int64
	// Unready returns why writes are not taken, or nil.
	Unready func() error
	// Stores changes the stores of namespaces.
	Stores Stores
	// Release does what ReleaseNamespace asks; by is who asks. Its errors are those of
	// the registry, or of the API.
	Release func(ctx context.Context, req *headwaterv1.ReleaseNamespaceRequest, by string) (*headwaterv1.ReleaseNamespaceResponse, error)
	// Warnings are what should be mended though everything runs.
	Warnings func() []string
}

// Admin is the AdminService.
type Admin struct {
	headwaterv1.UnimplementedAdminServiceServer
	cfg AdminConfig
}

// NewAdmin returns the service.
func NewAdmin(cfg AdminConfig) *Admin { return &Admin{cfg: cfg} }

// Status tells how the process and its namespaces fare.
func (s *Admin) Status(ctx context.Context, req *headwaterv1.StatusRequest) (*headwaterv1.StatusResponse, error) {
	out := &headwaterv1.StatusResponse{
		Build:       &headwaterv1.Build{Version: s.cfg.Version, Commit: s.cfg.Commit, GoVersion: runtime.Version()},
		Incarnation: s.cfg.Incarnation, Durability: string(s.cfg.Broker.Guarantee()),
		Log: &headwaterv1.LogStatus{Type: s.cfg.LogType, State: "running"}, Warnings: s.cfg.Warnings(),
	}
	if err := s.cfg.Unready(); err != nil {
		out.Log.State, out.Log.Reason = "not ready", err.Error()
	}
	usage := s.cfg.Broker.Usage()
	out.Log.Bytes, out.Log.DiskFreeBytes = usage.LogBytes, usage.FreeBytes
	all := s.cfg.Directory.All()
	if name := req.GetNamespace(); name != "" {
		// Also one that has failed: that is what Status is asked for.
		n, ok := s.cfg.Directory.Get(name)
		if !ok {
			return nil, noNamespace(name)
		}
		all = []*Namespace{n}
	}
	for _, n := range all {
		out.Namespaces = append(out.Namespaces, s.namespace(ctx, n, out.Log))
	}
	return whole(out, "ask for one namespace")
}

func (s *Admin) namespace(ctx context.Context, n *Namespace, log *headwaterv1.LogStatus) *headwaterv1.NamespaceStatus {
	c := n.Config()
	out := &headwaterv1.NamespaceStatus{Name: n.Name, Abstraction: string(c.Abstraction), Version: int64(c.Version)}
	if n.Letters != nil {
		out.DeadLetters = n.Letters.Len()
	}
	if n.Stream == nil { // it could not be opened
		out.Stores = append(out.Stores, storeStatus(n))
		return out
	}
	out.Durability = n.durability().String()
	for i := range n.Stream.Info().Partitions {
		p := wal.Partition(i)
		ps := s.partition(n, p)
		out.ParkedKeys += ps.ParkedKeys
		out.Partitions = append(out.Partitions, ps)
		if ps.TrimBlockedBy != "" && log.TrimBlockedBy == "" {
			log.TrimBlockedBy = n.Name + "/" + p.String() + ": " + ps.TrimBlockedBy
		}
	}
	if n.TimeSeries != nil {
		out.WidePages = n.TimeSeries.WidePages()
	}
	if n.ConsumersHeld != nil {
		out.Consumers = consumerMessages(n.ConsumersHeld())
	}
	out.TokensLive, out.TokensLimit = s.cfg.TokensLive(ctx, n.Name), c.Tokens.MaxLive
	out.Stores = s.stores(n)
	if full := TokensFull(out.TokensLive, out.TokensLimit); full != "" && out.Stores[0].Reason == "" {
		out.Stores[0].Reason = full
	}
	return out
}

// stores tells of each store of an open namespace, the PRIMARY first.
func (s *Admin) stores(n *Namespace) (out []*headwaterv1.StoreStatus) {
	now := s.cfg.Broker.Now()
	for _, v := range n.Views() {
		st := &headwaterv1.StoreStatus{
			Name: v.Name, Role: v.Role, Type: v.Type, Generation: int64(v.Generation), State: v.State, Reason: v.Reason,
			Stage: headwaterv1.Store_State(headwaterv1.Store_State_value[string(v.Stage)]),
		}
		if len(out) == 0 {
			primary := storeStatus(n)
			st.State, st.Reason = primary.State, primary.Reason
		}
		l := n.StoreLag(&v, now)
		st.LagRecords, st.LagSeconds = l.Records, l.Time.Seconds()
		out = append(out, st)
	}
	if len(out) == 0 { // it is being opened
		out = append(out, storeStatus(n))
	}
	return out
}

// StoreLag is how far a store is behind over all partitions: the records of all, the
// time of the oldest.
func (n *Namespace) StoreLag(v *StoreView, now time.Time) (sum wal.Lag) {
	if v.Progress == nil {
		return sum
	}
	for i := range n.Stream.Info().Partitions {
		if v.Held != nil && !v.Held(wal.Partition(i)) {
			continue // another process tells of it
		}
		l := n.Stream.LagOf(v.Progress, wal.Partition(i), now)
		sum.Records += l.Records
		sum.Time = max(sum.Time, l.Time)
	}
	return sum
}

// TokensFull says that a namespace with so many tokens sheds writes, "" when it
// does not.
func TokensFull(live, limit int64) string {
	if limit <= 0 || live < limit {
		return ""
	}
	return fmt.Sprintf("writes are shed (%s): %d tokens are live, and tokens.max_live is %d", apierrors.TokensFull, live, limit)
}

func storeStatus(n *Namespace) *headwaterv1.StoreStatus {
	st := &headwaterv1.StoreStatus{Role: "PRIMARY"}
	st.State, st.Reason = n.StoreState()
	if st.State != "running" {
		return st
	}
	if err := n.Failed(); err != nil {
		st.State, st.Reason = "stopped", err.Error()
	} else if !n.Ready() {
		st.State = "catching up"
	}
	return st
}

// partition tells what is known without asking the log: it must be told in an
// outage too.
func (s *Admin) partition(n *Namespace, p wal.Partition) *headwaterv1.PartitionStatus {
	l := n.Stream.Lag(p, s.cfg.Broker.Now())
	ps := &headwaterv1.PartitionStatus{
		Partition: int32(p), Applied: make(map[string]int64), Appended: int64(l.End - 1), Trimmed: int64(l.Start - 1),
		LagRecords: l.Records, LagSeconds: l.Time.Seconds(),
	}
	for _, v := range n.Views() {
		if v.Progress == nil {
			continue
		}
		if at, ok := ps.Applied[v.Role]; !ok || int64(v.Progress.Applied(p)) < at {
			ps.Applied[v.Role] = int64(v.Progress.Applied(p))
		}
	}
	if n.Applier != nil {
		parked, _ := n.Applier.ParkedKeys(p)
		ps.ParkedKeys = int64(parked)
	}
	if n.Owner != nil {
		ps.Owner, ps.Epoch = n.Owner(p)
	}
	if n.TrimBlocked != nil {
		ps.TrimBlockedBy = n.TrimBlocked(p)
	}
	return ps
}

// handshakeRefresh is how often a client should shake hands again.
const handshakeRefresh = 30 * time.Second

// Handshake tells a client what it may expect of a namespace and must keep to.
func (s *Admin) Handshake(ctx context.Context, req *headwaterv1.HandshakeRequest) (*headwaterv1.HandshakeResponse, error) {
	n, err := s.cfg.Directory.lookup(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	c := n.Config()
	return &headwaterv1.HandshakeResponse{
		Slo: sloMessage(c.SLO),
		Limits: &headwaterv1.HandshakeResponse_Limits{
			MaxRequestBytes: MaxRequestBytes, MaxInlineValueBytes: min(MaxInlineValue, c.Limits.MaxValue), MaxValueBytes: min(c.Limits.MaxValue, kv.MaxValueBytes),
			MaxPageBytes: MaxPageBytes, MaxItems: MaxItems, ChunkThresholdBytes: int64(c.KV.ChunkThreshold),
			WritePerSecond: c.Limits.WritePerSecond, BytesPerSecond: c.Limits.BytesPerSecond,
			TokenDriftPast: durationpb.New(c.Tokens.MaxDriftPast), TokenDriftFuture: durationpb.New(c.Tokens.MaxDriftFuture), TokenWindow: durationpb.New(c.Tokens.Window),
		},
		Capabilities: []string{"batch_put", "upload", "compression:zstd", "compression:s2"}, Utilization: utilization(s.cfg.Broker.Usage()),
		RefreshAfter: durationpb.New(handshakeRefresh), Abstraction: string(c.Abstraction),
	}, nil
}

// sloMessage is nil where a namespace has no objectives.
func sloMessage(o namespace.SLO) *headwaterv1.HandshakeResponse_Slo {
	if o == (namespace.SLO{}) {
		return nil
	}
	message := func(o namespace.Objective) *headwaterv1.HandshakeResponse_Objective {
		return &headwaterv1.HandshakeResponse_Objective{Target: durationpb.New(o.Target), Max: durationpb.New(o.Max)}
	}
	return &headwaterv1.HandshakeResponse_Slo{Read: message(o.Read), Write: message(o.Write)}
}

// utilization has what is measured, the disk of the embedded log, and is nil where
// nothing is.
func utilization(u wal.Usage) *headwaterv1.HandshakeResponse_Utilization {
	if u.FreeBytes < 0 || u.LogBytes <= 0 { // not known, or not yet
		return nil
	}
	return &headwaterv1.HandshakeResponse_Utilization{Storage: proto.Float64(float64(u.LogBytes) / float64(u.FreeBytes+u.LogBytes))}
}
