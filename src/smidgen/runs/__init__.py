"""One experiment, one seed: trained, resumed, checked, loaded and used."""
