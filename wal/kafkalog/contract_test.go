package kafkalog

import (
	"testing"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/waltest"
)

// contract runs the suite on the cluster that seeds are of. A restart is another
// session: the cluster is what keeps the data.
func contract(t *testing.T, config func(t testing.TB) Config) {
	open := func(t testing.TB) wal.Broker { return openBroker(t, config(t)) }
	waltest.Run(t, waltest.Harness{
		Open: open,
		Reopen: func(t testing.TB, b wal.Broker) wal.Broker {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return openBroker(t, b.(*Broker).cfg)
		},
	})
}

func TestContractKfake(t *testing.T) {
	contract(t, func(t testing.TB) Config { return fakeConfig(newCluster(t)) })
}

func TestContractEngineKafka(t *testing.T) {
	seeds := engine(t, oneBroker, "kafka")
	contract(t, func(testing.TB) Config { return Config{Brokers: seeds, AllowUnsafe: true} })
}

func TestContractEngineKafka3(t *testing.T) {
	seeds := engine(t, threeBrokers, "kafka3")
	contract(t, func(testing.TB) Config { return Config{Brokers: seeds} })
}
