module skiff.test/languages

go 1.26.8
