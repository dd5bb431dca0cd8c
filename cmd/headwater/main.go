// Command headwater is the whole of Headwater in one binary: the server and the
// verbs that talk to it.
package main

import (
	"context"
	"os"

	"github.com/headwater-db/headwater/cmd/headwater/cli"
)

// Set by the linker for a release.
var (
	version = "dev"
	commit  = ""
)

func main() {
	os.Exit(cli.Main(context.Background(), newRoot()))
}
