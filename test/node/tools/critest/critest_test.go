// Package critest is the CRI validation suite of cri-tools as a test binary. What the project itself releases
// does the same, and pulls one image by a digest that nobody but its owner can build again: here the digest
// comes from a flag, so that no spec is lost where upstream's registry is out of reach.
package critest

import (
	"flag"
	"os"
	"testing"
	_ "unsafe" // for go:linkname

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"sigs.k8s.io/cri-tools/pkg/framework"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)

//go:linkname imageWithDigest sigs.k8s.io/cri-tools/pkg/validate.testImageWithDigest
var imageWithDigest string

var digest = flag.String("image-with-digest", "", "reference by digest of the image for the spec that pulls by digest")

func init() {
	framework.RegisterFlags()
	// Runs after the suite's own callback, which sets the reference that upstream has.
	framework.AddBeforeSuiteCallback(func() {
		if *digest != "" {
			imageWithDigest = *digest
		}
	})
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func TestCRI(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "CRI validation")
}
