module skiff.test/registry

go 1.26.8

tool (
	github.com/google/go-containerregistry/cmd/registry
	skiff.test/registry/names
	skiff.test/registry/private
)

require github.com/google/go-containerregistry v0.22.1
