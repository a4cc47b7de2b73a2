// Package suite makes containerd's client suite a dependency, so that the lockfile here covers what its tests need.
package suite

import _ "github.com/containerd/containerd/v2/integration/client"
