from precis.reporting.charts import score_bars


def test_an_interval_that_rounding_put_beside_its_mean_is_drawn():
    # all documents score alike: the mean of the scores and the means of the samples differ in the last digit
    beside = ("attention", 20.0, 20.000000000000004, 19.999999999999996, False)
    on_it = ("attention", 20.0, 20.0, 20.0, False)
    assert score_bars([beside]) == score_bars([on_it])
